"""Detectors as ONNX files that need nothing of this project, and running them."""
