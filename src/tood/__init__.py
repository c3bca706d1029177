"""TOOD and related one-stage object detectors (sample-assignment methods), trained, evaluated and compared alike.

The public names are those of ``__all__`` (docs/python.md); the command line is ``tood``.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tood.api.loaded_detector import Found, LoadedDetector, load
    from tood.api.notebook import Evaluation, compare, evaluate, explain, prepare, train
    from tood.evaluation.assignment_view import AssignmentView
    from tood.io.errors import UserError

__version__ = "0.1.0"
__all__ = [
    "AssignmentView",
    "Evaluation",
    "Found",
    "LoadedDetector",
    "UserError",
    "__version__",
    "compare",
    "evaluate",
    "explain",
    "load",
    "prepare",
    "train",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())  # the command line attaches the console

_HOMES = {
    **dict.fromkeys(("Found", "LoadedDetector", "load"), "tood.api.loaded_detector"),
    **dict.fromkeys(("Evaluation", "compare", "evaluate", "explain", "prepare", "train"), "tood.api.notebook"),
    "AssignmentView": "tood.evaluation.assignment_view",
    "UserError": "tood.io.errors",
}


def __getattr__(name: str) -> Any:
    """Public names, imported when they are first used: the command line starts without PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tood' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
