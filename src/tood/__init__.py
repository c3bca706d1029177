"""TOOD and the sample-assignment methods of its literature, compared under one roof."""

import logging

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # the command line attaches the console
