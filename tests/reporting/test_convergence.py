"""Trainings that were too short are recognised by how AP on val rose at their end."""

from collections.abc import Sequence

import pandas as pd
import pytest

from tood.reporting.convergence import has_converged, late_rise


def history(ap: Sequence[float | None]) -> pd.DataFrame:
    """One row every 10 steps."""
    return pd.DataFrame({"step": [10 * (i + 1) for i in range(len(ap))], "val_AP": pd.Series(ap, dtype=float)})


@pytest.mark.parametrize(
    ("ap", "converged"),
    [
        ([0.1, 0.2, 0.3, 0.4], False),
        ([0.1, 0.3, 0.40, 0.41], True),
        ([0.1, 0.3, 0.40, 0.4401], True),  # less than a tenth
        ([0.1, 0.3, 0.40, 0.46], False),
        ([0.0, 0.0, 0.001, 0.019], True),  # less than two points
        ([0.5, 0.5, 0.6, 0.4], True),  # falling
        ([None, None, None, 0.4], True),  # nothing to hold it against
        ([], True),
    ],
)
def test_ap_that_still_rises_in_the_last_quarter(ap: list[float | None], converged: bool) -> None:
    assert has_converged(history(ap)) is converged


def test_only_the_last_quarter_counts() -> None:
    assert late_rise(history([0.1, 0.2, None, None, None, 0.40, None, 0.43])) == pytest.approx(0.03)
    assert late_rise(pd.DataFrame({"step": [1, 2]})) is None
