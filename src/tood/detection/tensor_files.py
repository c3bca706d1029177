"""Files of tensors and plain values, written atomically and read without running code."""

from pathlib import Path
from typing import Any

import torch

from tood.errors import UserError
from tood.files import atomic_path


def save_tensors(target: Path, value: Any) -> None:
    """``torch.save`` by temporary name and rename."""
    with atomic_path(target) as path:
        torch.save(value, path)


def load_tensors(path: Path) -> Any:
    """``torch.load`` of tensors and plain values only (no pickled code runs).

    Raises UserError when there is no such file or it is not one of those.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; make it or name another.") from error
    except Exception as error:  # torch raises many kinds here: zip, pickle, EOF, key errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: cannot be read as weights ({reason}); restore or remake it.") from error
