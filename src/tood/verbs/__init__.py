"""Implementations of the commands, one file each; Snakemake rules and users call them through ``tood``."""
