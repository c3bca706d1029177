"""Safe reading of checkpoint files (``torch.save`` pickles) of any code base, without executing their content.

A file of ``torch.save`` is a pickle beside raw numbers, and a pickle may call any function by name. Here it can call
four functions that assemble tensors; every other name becomes an inert placeholder, so that numpy scalars, message
hubs and optimisers, which toolboxes store too, are skipped.
"""

import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from tood.io.errors import UserError
from tood.io.escape import escape
from tood.weights.tensor_files import refuse_packed, refuse_unreal

_ZIP = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _InertKind(type):
    """Metaclass whose classes accept every operation of a pickle on functions, classes and objects, without effect."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        return cls

    def __setstate__(cls, _: Any) -> None: ...

    def __setitem__(cls, _: Any, __: Any) -> None: ...

    def append(cls, _: Any) -> None: ...

    def extend(cls, _: Any) -> None: ...

    def add(cls, _: Any) -> None: ...


class Inert(metaclass=_InertKind):
    """Placeholder of every function, class and object of an unknown kind."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return cls


@dataclass(frozen=True)
class _StorageKind:
    dtype: torch.dtype


class _Rebuild:
    """One of the functions that a pickle may call; it has no attributes that a pickle could change."""

    __slots__ = ("_kind",)

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("it changes how tensors are put together")

    def __call__(self, *arguments: Any) -> Any:
        if self._kind == "tensor":
            flat, offset, size, stride = arguments[:4]
            return torch.as_strided(flat, tuple(size), tuple(stride), offset)
        if self._kind == "parameter":
            return arguments[0]
        rebuild, _, inner = arguments[:3]  # a tensor with attributes, which are left out
        return rebuild(*inner)


_FUNCTIONS = {
    ("torch._utils", "_rebuild_tensor"): "tensor",
    ("torch._utils", "_rebuild_tensor_v2"): "tensor",
    ("torch._utils", "_rebuild_parameter"): "parameter",
    ("torch._utils", "_rebuild_parameter_with_state"): "parameter",
    ("torch._tensor", "_rebuild_from_type_v2"): "typed",
}


class _Unpickler(pickle._Unpickler):
    """Numbers, texts, containers and tensors; ``storages`` (1-d, by key) are filled by the caller afterwards.

    Based on Python's unpickler in Python: the one in C allocates 8 bytes for each memo index up to the largest in the
    pickle, so that 13 bytes can make it fill 32 GB.
    """

    def __init__(self, stream: IO[bytes], room: int) -> None:
        super().__init__(stream, encoding="utf-8", errors="replace")
        self.storages: dict[str, Tensor] = {}
        self._room = room  # bytes that the storages may take

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _FUNCTIONS:
            return _Rebuild(_FUNCTIONS[module, name])
        if module == "torch" and name in _DTYPES:
            return _StorageKind(_DTYPES[name])
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch", "Size"):
            return tuple
        return Inert

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or pid[0] not in ("storage", b"storage"):
            return Inert
        _, kind, key, _, count, *view = pid
        if not isinstance(kind, _StorageKind) or not isinstance(count, int):
            raise pickle.UnpicklingError("it holds numbers of an unknown kind")
        flat = self.storages.get(str(key))
        if flat is None:
            self._room -= count * kind.dtype.itemsize
            if count < 0 or self._room < 0:
                raise pickle.UnpicklingError("it announces more numbers than it has")
            flat = self.storages[str(key)] = torch.empty(count, dtype=kind.dtype)
        if view and view[0] is not None:
            _, start, length = view[0]
            return flat[start : start + length]
        return flat


def read_foreign_file(path: Path) -> Any:
    """What ``torch.save`` wrote, in either of its formats; raises UserError if it is something else or damaged."""
    try:
        refuse_packed(path)
        with path.open("rb") as stream:
            zipped = stream.read(len(_ZIP)) == _ZIP
            stream.seek(0)
            content = _read_zip(path) if zipped else _read_legacy(stream, path.stat().st_size)
        refuse_unreal(content)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; make it or name another.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path}: cannot be read as weights ({escape(reason, most=200)}); restore or remake it."
        ) from error
    return content


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or any(name.endswith("/constants.pkl") for name in names):
            raise pickle.UnpicklingError("it is no archive of torch.save")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise pickle.UnpicklingError("its numbers have the bytes in the other order")
        with archive.open(pickles[0]) as stream:
            unpickler = _Unpickler(stream, path.stat().st_size)
            content = unpickler.load()
        for key, flat in unpickler.storages.items():
            _fill(flat, archive.read(f"{folder}data/{key}"))
        return content


def _read_legacy(stream: IO[bytes], size: int) -> Any:
    """Read the format before torch 1.6, which toolboxes used for years after it: five pickles, then the numbers."""
    if _Unpickler(stream, 0).load() != _LEGACY_MAGIC:
        raise pickle.UnpicklingError("it is no file of torch.save")
    _, system = _Unpickler(stream, 0).load(), _Unpickler(stream, 0).load()
    if not (isinstance(system, dict) and system.get("little_endian", True)):
        raise pickle.UnpicklingError("its numbers have the bytes in the other order")
    unpickler = _Unpickler(stream, size)
    content = unpickler.load()
    for key in _Unpickler(stream, 0).load():
        flat = unpickler.storages[str(key)]
        (count,) = struct.unpack("<q", stream.read(8))
        if count != flat.numel():
            raise pickle.UnpicklingError(f"it holds {count} numbers where it announces {flat.numel()}")
        _fill(flat, stream.read(flat.numel() * flat.element_size()))
    return content


def _fill(flat: Tensor, content: bytes) -> None:
    if len(content) != flat.numel() * flat.element_size():
        raise pickle.UnpicklingError("it is cut short")
    if content:
        flat.copy_(torch.frombuffer(bytearray(content), dtype=flat.dtype))
