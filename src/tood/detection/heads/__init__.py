"""Detection heads: from pyramid features to dense predictions."""
