"""The verbs of the command line, one file each: what the rules run and what a person runs by hand."""
