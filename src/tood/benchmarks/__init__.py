"""Benchmarks: how fast the parts are, each beside a yardstick in the same process."""
