"""Training: loop, optimiser and learning-rate schedule, checkpoints, distributed processes."""
