"""MLflow as a mirror of the results on disk."""
