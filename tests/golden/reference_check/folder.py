"""Reading reference files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reference_check.rows import UnsupportedError

Arrays = Mapping[str, NDArray[Any]]


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedError(f"{path.name} cannot be read: {error}") from error


def read_arrays(path: Path) -> Arrays:
    """All arrays of an npz."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return {key: content[key] for key in content.files}
    except (OSError, ValueError) as error:
        raise UnsupportedError(f"{path.name} cannot be read: {error}") from error


def below(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose key starts with a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def numbered(arrays: Arrays, stem: str) -> list[NDArray[Any]]:
    """``stem_0``, ``stem_1``, ... as long as they go."""
    found = []
    while (key := f"{stem}_{len(found)}") in arrays:
        found.append(arrays[key])
    return found


def tensor(array: NDArray[Any], dtype: torch.dtype | None = None) -> torch.Tensor:
    values = torch.from_numpy(np.array(array))
    return values if dtype is None else values.to(dtype)
