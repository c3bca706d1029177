"""Command line: options of every command, which call the functions in ``tood/verbs`` (``dvc``: ``tood/workflow``)."""
