"""Trainings that were too short are recognised by a line through AP on val in their last third."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from tood.reporting.convergence import expected_rise, still_rising


def history(ap: Sequence[float | None]) -> pd.DataFrame:
    """One row every 10 steps."""
    return pd.DataFrame({"step": [10 * (i + 1) for i in range(len(ap))], "val_AP": pd.Series(ap, dtype=float)})


def along(curve: Sequence[float]) -> list[float | None]:
    """A curve (x from 0 to 1) at twelve evaluations."""
    return [float(value) for value in np.interp(np.linspace(1 / 12, 1, 12), np.linspace(0, 1, len(curve)), curve)]


@pytest.mark.parametrize(
    ("ap", "rises"),
    [
        (along([0.0, 0.4]), True),
        (along([0.0, 0.3, 0.35, 0.4]), True),
        (along([0.0, 0.35, 0.39, 0.40]), False),
        ([0.1] * 8 + [0.39, 0.394, 0.397, 0.4], False),  # the jump where the learning rate drops
        (along([0.0, 0.010, 0.019]), False),  # less than two points
        (along([0.2, 0.6, 0.4]), False),  # falling
        ([0.1, 0.2, 0.3, 0.4, 0.5], True),  # as few as five evaluations
        ([0.3, 0.45, 0.5, 0.51, 0.515], False),
        ([None] * 11 + [0.4], False),  # nothing to hold it against
        ([], False),
    ],
)
def test_ap_that_still_rises_in_the_last_third(ap: list[float | None], rises: bool) -> None:
    assert still_rising([history(ap)]) is rises


def test_the_line_says_what_another_third_would_add() -> None:
    assert expected_rise(history(along([0.0, 0.6]))) == pytest.approx(0.2)
    assert expected_rise(history([0.1, 0.2, None, None, None, 0.40, None, 0.43, 0.46])) == pytest.approx(0.09)
    assert expected_rise(pd.DataFrame({"step": [1, 2]})) is None


def test_runs_of_a_row_are_judged_together() -> None:
    """Noise of single runs, here +-2 points at the end, cancels in part."""
    up = [0.4] * 10 + [0.44, 0.48]
    down = [0.4] * 10 + [0.36, 0.32]
    assert still_rising([history(up)])
    assert not still_rising([history(up), history(down)])
