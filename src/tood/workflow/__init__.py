"""Workflow: settings, code digests, locks and pipelines for Snakemake and DVC."""
