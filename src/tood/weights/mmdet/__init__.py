"""Checkpoints of other code bases: read safely, recognised, brought into our layout."""
