"""The comparison as a pandas DataFrame, which becomes ``comparison.csv``."""

from typing import Any

import pandas as pd

from tood.evaluation.significance import Interval
from tood.reporting.comparison import MEASURED, SPREAD, ComparedRow, Comparison
from tood.reporting.published_rows import Printed, PublishedView, published_view

_COUNTS = (
    "seeds",
    "runs_to_decide",
    "parameters",
    "resamples",
    "published_epochs",
    "published_head_parameters",
    "published_parameters",
)


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """One line per row, measured columns first; fractions, seconds, GiB; blank where undefined.

    ``delta_image_sd`` and ``delta_seed_sd`` are the two parts of the standard error of ``delta_AP``. ``seeds`` counts
    the runs that a line is the mean of, ``AP_std``, ``AP50_std`` and ``AP75_std`` are sample standard deviations over
    them. Where published numbers compare, ``kind`` tells ``measured`` lines, which may have one beside them in
    ``published_*``, from ``published`` ones, whose other columns are blank.
    """
    view = published_view(comparison)
    records = [_record(row, comparison) for row in comparison.rows]
    if view is None:
        return pd.DataFrame(records).astype({"runs_to_decide": "Int64"})
    records = [
        {**record, "kind": "measured", **_published(view, view.beside.get(row.name))}
        for record, row in zip(records, comparison.rows, strict=True)
    ]
    records += [{"run": one.row, "kind": "published", **_published(view, one)} for one in view.others]
    return pd.DataFrame(records).astype(dict.fromkeys(_COUNTS, "Int64"))  # whole also where a line has none


def _published(view: PublishedView, one: Printed | None) -> dict[str, Any]:
    """The columns of a published value, in the units of ours; blank where there is none."""
    value = None if one is None else one.value
    return {
        **{f"published_{name}": _rounded(value.fraction(name)) if value else None for name in MEASURED},
        "published_delta_AP": _rounded(one.delta) if one else None,
        "published_source": view.sources[one.source - 1] if one else None,
        "published_split": value.split if value else None,
        "published_epochs": value.epochs if value else None,
        "published_note": (value.note or None) if value else None,
        "published_head_parameters": _count(value.head_parameters) if value else None,
        "published_parameters": _count(value.parameters) if value else None,
        "published_head_gflops": value.head_gflops if value else None,
        "published_gflops": value.gflops if value else None,
    }


def _count(millions: float | None) -> int | None:
    return None if millions is None else round(1e6 * millions)


def _record(row: ComparedRow, comparison: Comparison) -> dict[str, Any]:
    values: dict[str, Any] = {"run": row.name}
    values |= {name: _rounded(row.stats[name]) for name in MEASURED}
    values["delta_AP"] = _rounded(row.delta.value if row.delta else None)
    values |= _bounds("delta_AP", row.delta.interval if row.delta else None)
    values |= _verdict(row, comparison)
    values |= _bounds("AP", row.interval)
    values |= {f"{name}_std": _rounded(row.std[name]) for name in SPREAD}
    return values | {
        "seeds": row.seeds,
        "parameters": None if row.parameters is None else round(row.parameters),
        "gflops": _rounded(row.gflops),
        "training_seconds": round(row.training_seconds, 1),
        "peak_memory_gib": _rounded(row.peak_memory_gib),
        "images_per_second": _rounded(row.images_per_second),
        "method": row.row.method,
        "backbone": row.row.backbone,
        "schedule": row.row.schedule,
        "baseline": comparison.study.baseline,
        "split": comparison.study.split.name,
        "checkpoint": row.checkpoint,
        "resamples": comparison.resamples,
        "changed_code": " ".join(row.row.changed_code) or None,
    }


def _verdict(row: ComparedRow, comparison: Comparison) -> dict[str, Any]:
    """What the difference to the baseline says of methods; ``delta_clear`` is blank where it says nothing."""
    estimate = row.delta.estimate if row.delta else None
    seeds = estimate.seed_variance if estimate else None
    decides = estimate is not None and estimate.decides
    return {
        "delta_clear": str(comparison.is_clear(row)).lower() if decides else None,
        "delta_image_sd": _rounded(estimate.image_variance**0.5) if estimate else None,
        "delta_seed_sd": None if seeds is None else _rounded(seeds**0.5),
        "break_even_seed_sd": _rounded(estimate.break_even_seed_sd) if estimate else None,
        "runs_to_decide": comparison.runs_to_decide(row),
        "leader": str(row in comparison.leaders()).lower() if comparison.ranks else None,
        "still_rising": str(row.rising).lower(),
        "unlike_baseline": "; ".join(row.unlike) or None,
    }


def _bounds(name: str, interval: Interval | None) -> dict[str, float | None]:
    return {
        f"{name}_low": _rounded(interval.low if interval else None),
        f"{name}_high": _rounded(interval.high if interval else None),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
