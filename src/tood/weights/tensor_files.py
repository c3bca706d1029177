"""Files of tensors and plain values, written atomically and read without executing code.

Besides code, a hostile file may be small but expand to much: compressed zeros, or one number viewed as 10^12 elements.
``refuse_packed`` and ``refuse_unreal`` guard all readers of such files against that, also of other code bases' files.
"""

import os
import pickle
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tood.io.errors import UserError
from tood.io.escape import escape
from tood.io.text import other_kind
from tood.io.write import atomic_path

_ZIP = b"PK\x03\x04"


def save_tensors(target: Path, value: Any) -> None:
    """``torch.save`` by temporary name and rename; the same tensors give the same bytes."""
    with atomic_path(target) as path, path.open("wb") as stream:  # with a path, its name would be stored in the archive
        torch.save(value, stream)


def load_tensors(path: Path) -> Any:
    """``torch.load`` of tensors and plain values only (no pickled code runs), of what ``save_tensors`` wrote.

    Raises UserError when there is no such file, it is not one of those, or a byte of it has changed: PyTorch writes
    checksums, but never reads them.
    """
    try:
        refuse_packed(path)
        _refuse_changed(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of tensors that are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
        refuse_unreal(content)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; make it or name another.") from error
    except Exception as error:  # torch raises many kinds here: zip, pickle, EOF, key errors
        raise UserError(
            f"{path}: cannot be read as weights ({_reason(error)}); restore it, or remove it and make it again."
        ) from error
    return content


def _reason(error: Exception) -> str:
    """In a line, without PyTorch's advice to trust the file and run what it holds."""
    if isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error):
        return "it holds code or objects besides tensors and plain values, which are never loaded"
    text = (str(error).strip().splitlines() or [""])[0]
    return escape(text, most=300) if " " in text else "it is damaged"  # else only a number or key


def _refuse_changed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise pickle.UnpicklingError(f"it is damaged: '{damaged}' in it does not have its checksum")


def refuse_packed(path: Path) -> None:
    """Raise UnpicklingError for what is no file, a zip that unpacks to more than itself, and files of other kinds."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise pickle.UnpicklingError("it is no file")
    with path.open("rb") as stream:
        start = stream.read(512)
    if not start.startswith(_ZIP):
        if (other := other_kind(start)) is not None:
            raise pickle.UnpicklingError(f"it {other.what}; {other.remedy}")
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise pickle.UnpicklingError("it is compressed, as no archive of torch.save is")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise pickle.UnpicklingError("it announces more than it has")


def refuse_unreal(content: Any) -> None:
    """Raise UnpicklingError if a tensor anywhere in ``content`` has more elements than are stored of it."""
    waiting, seen = [content], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        if isinstance(value, Tensor):
            plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
            if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise pickle.UnpicklingError("it has a tensor of which not every element is stored")
        elif isinstance(value, dict):
            seen.add(id(value))
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            seen.add(id(value))
            waiting += value
