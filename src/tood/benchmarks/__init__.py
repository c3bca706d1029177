"""Benchmarks: speed of training, inference, assignment and post-processing, each beside a yardstick."""
