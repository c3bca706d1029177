"""TOOD and related one-stage object detectors (sample-assignment methods), trained, evaluated and compared alike."""

import logging

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # the command line attaches the console
