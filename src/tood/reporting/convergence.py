"""Whether a training was long enough: how much AP on the val split still rose in its last steps."""

from collections.abc import Sequence

import pandas as pd

from tood.reporting.run_folder import RunFolder

_LAST = 0.25
"""Share of the steps, the last ones, within which AP should hardly rise."""
_RISE = 0.1
_LEAST = 0.02
"""A rise beyond this share of the final AP, and beyond this many points, says that the training was too short."""


def late_rise(history: pd.DataFrame) -> float | None:
    """How much AP on val rose in the last quarter of the steps, a fraction; None where it was not evaluated before."""
    if "val_AP" not in history:
        return None
    measured = history.loc[history["val_AP"].notna(), ["step", "val_AP"]]
    early = measured[measured["step"] >= (1 - _LAST) * history["step"].max()]
    if len(early) < 2:
        return None
    return float(early["val_AP"].iloc[-1] - early["val_AP"].iloc[0])


def has_converged(history: pd.DataFrame) -> bool:
    """False where AP rose by more than a tenth of itself, and by more than two points, in the last quarter."""
    rise = late_rise(history)
    return rise is None or rise <= max(_LEAST, _RISE * float(history["val_AP"].dropna().iloc[-1]))


def unconverged(runs: Sequence[RunFolder]) -> tuple[str, ...]:
    """Names of the runs that were still improving."""
    return tuple(run.name for run in runs if not has_converged(run.history()))
