"""Readers of data sets in the layouts people have."""
