"""The verbs of the command line: arguments in, a call of ``tood/verbs`` (dvc: ``reproduction``) out."""
