"""TOOD and the sample-assignment methods of its literature, compared under one roof."""

__version__ = "0.1.0"
