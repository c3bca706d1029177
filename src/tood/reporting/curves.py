"""Reading ``history.csv`` and ``pr.csv``: whole files with numbers in their columns, or a sentence on what is wrong."""

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from tood.evaluation.coco_metrics import RECALLS
from tood.io.errors import UserError
from tood.io.escape import escape, from_csv_cell
from tood.io.read import read_bytes, remedied

_Range = tuple[float, float]
_ANY = (-1e300, 1e300)  # 100 times as much is still a number
_SHARE = (0.0, 1.0)
_COUNT = (0.0, 2.0**53)
_SECONDS = (0.0, 1e11)  # since 1970
_BLANK = "a blank in place of a number"
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
        _refuse_cut(content)
        # A class may be called "null" or "NA"; only a file of numbers has blanks and nan.
        frame = pd.read_csv(
            io.BytesIO(content), encoding="utf-8-sig", dtype={"class": str}, keep_default_na="class" not in needed
        )
    except (ValueError, csv.Error) as error:  # the former also of pandas and of what is not UTF-8
        raise UserError(f"{path}: is not valid CSV ({escape(error, most=300)}); {remedy}.") from error
    for name in needed:
        if name not in frame.columns:
            raise UserError(f"{path}: has no column '{name}'; {remedy}.")
    for name in frame.columns:
        limits = needed[name] if name in needed else others(name) if others else None
        problem = limits and _problem_in(frame[name], limits, blank=name not in needed)
        if problem:
            raise UserError(f"{path}: column '{escape(name, most=100)}' has {problem}; {remedy}.")
    return frame


def _refuse_cut(content: bytes) -> None:
    """Raise ValueError for rows that are not as long as the header, and for a last line that does not end."""
    if content and not content.endswith(b"\n"):
        raise ValueError("its last line breaks off")
    rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    header = next(rows, [])
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"line {rows.line_num} has {len(row)} fields, the header {len(header)}")


def _problem_in(column: pd.Series, limits: _Range, blank: bool) -> str | None:
    """What is wrong with a column that should be numbers within ``limits``."""
    if len(column) and (column.dtype == bool or not pd.api.types.is_numeric_dtype(column)):
        text = next((str(value) for value in column if not _is_number(value)), None)
        if text is None:
            return "a number that is too long"
        return f"'{escape(text, most=100)}' in place of a number" if text.strip() else _BLANK
    values = column.to_numpy(float)
    if not blank and np.isnan(values).any():
        return _BLANK
    outside = values[(values < limits[0]) | (values > limits[1])]
    return f"{outside[0]:g}, which cannot be" if len(outside) else None


def _is_number(value: object) -> bool:
    """Or a blank, which pandas makes a float of."""
    try:
        return isinstance(value, float) or not math.isnan(float(str(value)))
    except ValueError:
        return False
