"""Import of MMDetection checkpoints: read safely, recognised, converted to this project's parameter names."""
