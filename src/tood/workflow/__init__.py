"""What Snakemake and DVC need of the project: settings, digests of code, one workflow at a time, pipelines."""
