"""Reading and writing files so that nothing is ever half-written."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tood.errors import UserError

_CHUNK = 1 << 20


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target``; rename it onto ``target`` if the block succeeds.

    Raises UserError if the folder cannot be written or the disk is full.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except OSError as error:
        if error.errno is None:
            raise
        raise UserError(f"{target}: cannot be written: {error.strerror}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any, *, indent: int | None = 2) -> None:
    write_text(target, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def write_yaml(target: Path, value: Any) -> None:
    write_text(target, yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100))


def write_with(target: Path, writer: Callable[[Path], object]) -> None:
    """Let ``writer`` (e.g. ``frame.to_csv``) fill a temporary file that then takes the target's place."""
    with atomic_path(target) as path:
        writer(path)


class _DuplicateKeyError(Exception):
    """A mapping gives a key twice; the message says which and where."""


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML that does not let a key silently replace an earlier one of the same mapping."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise _DuplicateKeyError(
                        f"key '{key.value}' is in line {lines[key.value]} and again in line {line}; keep one."
                    )
                lines[key.value] = line
        return node


def _read_bytes(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error


def read_json(path: Path) -> Any:
    """Parse a JSON file; UserError names the file and the line where it breaks."""
    content = _read_bytes(path)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not valid JSON ({error}); restore or regenerate it.") from error


def read_yaml(path: Path) -> Any:
    """Parse a YAML file; UserError names the file and the place where it breaks, or a key given twice."""
    content = _read_bytes(path)
    try:
        return yaml.load(content.decode("utf-8-sig"), _StrictLoader)
    except _DuplicateKeyError as error:
        raise UserError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: is not valid YAML ({reason}).") from error


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.new(algorithm)
    with Path(path).open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
