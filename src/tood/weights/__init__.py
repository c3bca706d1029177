"""Weights: trained models (``model.pt``), starting weights, import of checkpoints of other code bases."""
