"""Files of weights: finished models, starting weights, checkpoints of other code bases."""
