"""The best scores, equal ones in the order of their places."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tood.detection.ranking import best_first

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SCORE = st.sampled_from([-1.0, 0.0, 1e-45, 1e-30, 0.25, 0.5, 1.0]) | st.floats(0, 1, width=32)


@TYPES
@settings(max_examples=60, deadline=None)
@given(scores=st.lists(SCORE, min_size=1, max_size=40), count=st.integers(1, 50), data=st.data())
def test_by_score_then_place(dtype: torch.dtype, scores: list[float], count: int, data: st.DataObject) -> None:
    places = data.draw(st.permutations(range(len(scores))))
    values = torch.tensor(scores, dtype=dtype)
    plain = sorted(range(len(scores)), key=lambda index: (-float(values[index]), index))
    placed = sorted(range(len(scores)), key=lambda index: (-float(values[index]), places[index]))
    assert best_first(values, count).tolist() == plain[:count]
    assert best_first(values, count, torch.tensor(places)).tolist() == placed[:count]


@TYPES
def test_places_may_be_large(dtype: torch.dtype) -> None:
    places = torch.tensor([2**32 - 1, 2**31, 0, 7])
    assert best_first(torch.tensor([0.5, 0.5, 0.5, 0.75], dtype=dtype), 4, places).tolist() == [3, 2, 1, 0]


@TYPES
def test_rows_are_ranked_each_for_itself(dtype: torch.dtype) -> None:
    scores = torch.tensor([[0.5, 0.75, 0.5], [0.25, -1, 0.75]], dtype=dtype)
    assert best_first(scores, 2).tolist() == [[1, 0], [2, 0]]
    assert best_first(scores.T.contiguous().T[:, 1:], 2).tolist() == [[0, 1], [1, 0]]
