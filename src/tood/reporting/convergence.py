"""Whether AP on the watched split still rises at the end of a training: a straight line through its last third.

The line's slope says what another third of the steps would bring if AP went on like that. A row still rises where that
is more than two points and more than a tenth of its last AP. The jump of AP where the learning rate drops, at two
thirds of the steps in the published schedules, lies before the last third and does not count.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

_LAST = 1 / 3
"""Share of the steps, the last ones, through whose evaluations the line goes."""
_LEAST = 0.02
_RISE = 0.1


def expected_rise(history: pd.DataFrame) -> float | None:
    """What another third of the steps would add to AP, a fraction; None with fewer than two evaluations in the last."""
    late = _late(history)
    if len(late) < 2:
        return None
    slope = np.polyfit(late["step"].to_numpy(float), late["val_AP"].to_numpy(float), 1)[0]
    return float(slope * _LAST * history["step"].max())


def still_rising(histories: Sequence[pd.DataFrame]) -> bool:
    """Whether the runs of a row were on average still improving; False where their AP was not watched at the end."""
    rises = [(expected_rise(history), history) for history in histories]
    known = [(rise, float(_late(history)["val_AP"].iloc[-1])) for rise, history in rises if rise is not None]
    if not known:
        return False
    rise, last = np.mean(known, axis=0)
    return bool(rise > max(_LEAST, _RISE * last))


def _late(history: pd.DataFrame) -> pd.DataFrame:
    """Step and AP of the evaluations in the last third, the one at its very beginning left out."""
    if "val_AP" not in history:
        return pd.DataFrame({"step": [], "val_AP": []})
    measured = history.loc[history["val_AP"].notna(), ["step", "val_AP"]]
    late: pd.DataFrame = measured[measured["step"] > (1 - _LAST) * history["step"].max() * (1 + 1e-9)]
    return late
