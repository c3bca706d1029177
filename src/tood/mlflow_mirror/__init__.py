"""MLflow mirror: experiments and runs in MLflow kept equal to the results on disk."""
