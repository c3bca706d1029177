"""Fused GPU kernels of the training step, each beside the plain formula that a CPU runs and that tests it."""
