"""Where a trained detector is taken from: a run's folder, a ``model.pt`` or an exported file."""

import os
from pathlib import Path

from tood.config.messages import nearest
from tood.io.errors import UserError
from tood.verbs.folders import RESULTS

EXPORT_SUFFIX = ".onnx"


def model_of(run: Path) -> Path:
    """The ``model.pt`` of a run's folder; UserError if it is not trained."""
    if os.path.isfile(run) or run.suffix == ".pt":
        raise UserError(f"--run {run}: is a file; give its folder, --run {run.parent}, or --weights {run}.")
    if not os.path.isfile(run / "model.pt"):
        trained = sorted(path.parent.as_posix() for path in RESULTS.glob("**/model.pt"))
        hint = nearest(run.as_posix(), trained)
        raise UserError(f"--run {run}: has no model.pt; give the folder results/<study>/<run> of a trained run{hint}")
    return run / "model.pt"
