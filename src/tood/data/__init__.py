"""Data: where it comes from, one layout, network inputs."""
