"""Training: the loop, its schedule, processes, checkpoints."""
