"""What ``import tood`` offers (docs/python.md); the names are listed in ``tood/__init__.py``."""
