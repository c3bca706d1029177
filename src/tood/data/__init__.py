"""Data sets: download, annotation formats, the prepared layout, and batches of network inputs."""
