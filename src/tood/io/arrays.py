"""Reading ``.npz`` files of unknown origin: no pickled objects, and no array larger than what is in the file."""

import math
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

LARGEST_ARRAYS = 256 << 20
"""Bytes of all arrays of a file together, uncompressed."""


def read_npz(path: Path, largest: int = LARGEST_ARRAYS) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name.

    Raises FileNotFoundError, or ValueError for anything that is wrong with the file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no file")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > largest:
                raise ValueError(f"it unpacks to more than {largest >> 20} MB")
            for entry in archive.infolist():
                _refuse_announced(archive, entry)
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except Exception as error:  # zipfile and numpy on unknown bytes raise nearly anything
        raise ValueError(" ".join(str(error).split())[:300] or type(error).__name__) from error


def _refuse_announced(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Refuse arrays that are larger than their entry: numpy allocates an array's memory before it reads the data."""
    with archive.open(entry) as stream:
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(stream))
        if read_header is None:
            raise ValueError("it has an array of an unknown kind")
        shape, _, kind = read_header(stream)
    if kind.hasobject or math.prod(shape) * kind.itemsize > entry.file_size:
        raise ValueError("it has an array of objects, or announces a larger one than it has")
