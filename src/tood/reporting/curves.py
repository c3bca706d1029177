"""Reading the curves in ``history.csv`` and ``pr.csv``, validated column by column."""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from tood.evaluation.coco_metrics import RECALLS
from tood.io.errors import UserError
from tood.io.escape import escape, from_csv_cell
from tood.io.files import read_bytes, remedied

_Range = tuple[float, float]
_ANY = (-1e300, 1e300)  # 100 times as much is still a number
_SHARE = (0.0, 1.0)
_COUNT = (0.0, 2.0**53)
_SECONDS = (0.0, 1e11)  # since 1970
_MARKS = {"step": _COUNT, "epoch": _COUNT, "time": _SECONDS}


def read_history(path: Path, remedy: str) -> pd.DataFrame:
    """All columns are numbers, those but step, epoch and time with blanks.

    Raises UserError, which ends with ``remedy``, for anything else and for a file that breaks off.
    """
    return _read(path, remedy, dict(_MARKS), lambda name: _SHARE if name.startswith("val_") else _ANY)


def read_precision_recall(path: Path, remedy: str) -> pd.DataFrame:
    """Columns class, iou, recall and precision, of each class a whole curve; UserError like ``read_history``."""
    curves = _read(path, remedy, {"class": None, "iou": _SHARE, "recall": _SHARE, "precision": _SHARE}, None)
    curves["class"] = curves["class"].map(from_csv_cell)
    points = curves.groupby("class", sort=False)["recall"].agg(["size", "nunique"])
    cut = points.index[(points != len(RECALLS)).any(axis=1)]
    if len(cut):
        name = escape(cut[0], most=100)
        raise UserError(f"{path}: does not have {len(RECALLS)} values of recall for class '{name}'; {remedy}.")
    return curves


def _read(
    path: Path, remedy: str, needed: dict[str, _Range | None], others: Callable[[str], _Range] | None
) -> pd.DataFrame:
    """Columns ``needed`` without blanks, by what their numbers may be (None for text), and ``others`` with them."""
    with remedied(remedy):
        content = read_bytes(path)
    try:
        frame = _parse(content)
    except (ValueError, csv.Error) as error:  # the former also of what is not UTF-8
        raise UserError(f"{path}: is not valid CSV ({escape(error, most=300)}); {remedy}.") from error
    for name in needed:
        if name not in frame.columns:
            raise UserError(f"{path}: has no column '{name}'; {remedy}.")
    for name in frame.columns:
        limits = needed[name] if name in needed else others(name) if others else None
        if limits is not None:
            texts, frame[name] = frame[name], pd.to_numeric(frame[name], errors="coerce")
            problem = _problem_in(texts, frame[name].to_numpy(float), limits, blank=name not in needed)
            if problem:
                raise UserError(f"{path}: column '{escape(name, most=100)}' has {problem}; {remedy}.")
    return frame


def _parse(content: bytes) -> pd.DataFrame:
    """All cells as they are written. Raises ValueError or csv.Error for anything but rows as long as the header."""
    if content and not content.endswith(b"\n"):
        raise ValueError("its last line breaks off")
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    header = next(reader, [])
    if len(set(header)) < len(header):
        raise ValueError("two columns have the same name")
    rows = []
    for row in reader:
        if len(row) != len(header):
            raise ValueError(f"line {reader.line_num} has {len(row)} fields, the header {len(header)}")
        rows.append(row)
    return pd.DataFrame(rows, columns=header, dtype=str)


def _problem_in(texts: Iterable[str], values: np.ndarray, limits: _Range, blank: bool) -> str | None:
    """What is wrong with a column that should be numbers within ``limits``; ``values`` are NaN where it has none."""
    missing = {text.strip() for text, value in zip(texts, values, strict=True) if np.isnan(value)}
    if wrong := sorted(missing - {"", "nan"}):
        return f"'{escape(wrong[0], most=100)}' in place of a number"
    if missing and not blank:
        return "a blank in place of a number"
    outside = values[(values < limits[0]) | (values > limits[1])]
    return f"{outside[0]:g}, which cannot be" if len(outside) else None
