"""Heads: from pyramid features to dense predictions."""
