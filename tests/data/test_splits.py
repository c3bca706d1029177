import random

from hypothesis import given
from hypothesis import strategies as st

from tood.config.datasets import Draw
from tood.data.findings import Findings
from tood.data.formats.splits import draw_splits

keys = st.sets(st.text("abcdef0123456789", min_size=1, max_size=6), min_size=5, max_size=60)
draws = st.builds(Draw, val=st.floats(0.01, 0.4), test=st.sampled_from([0.0, 0.1, 0.3]), seed=st.integers(0, 99))


@given(keys, draws, st.randoms(use_true_random=False))
def test_splits_divide_the_images_whatever_their_order(names: set[str], draw: Draw, rng: random.Random) -> None:
    ordered = sorted(names)
    shuffled = list(ordered)
    rng.shuffle(shuffled)
    findings = Findings()
    splits = draw_splits(ordered, draw, findings, "here")
    assert splits == draw_splits(shuffled, draw, findings, "here")
    assert sorted(name for split in splits.values() for name in split) == ordered
    assert all(splits[name] for name in splits)
    assert set(splits) == {"train", "val"} | ({"test"} if draw.test else set())
    assert abs(len(splits["val"]) - draw.val * len(names)) <= 1


def test_seeds_give_different_splits_and_shares_are_met() -> None:
    names = [f"{index:04}" for index in range(1000)]
    drawn = {seed: draw_splits(names, Draw(val=0.2, test=0.1, seed=seed), Findings(), "") for seed in (0, 1)}
    assert drawn[0]["val"] != drawn[1]["val"]
    assert {name: len(split) for name, split in drawn[0].items()} == {"train": 700, "val": 200, "test": 100}


def test_new_images_move_few_of_the_others() -> None:
    names = [f"{index:04}" for index in range(1000)]
    before = set(draw_splits(names, Draw(val=0.2), Findings(), "")["val"])
    after = set(draw_splits([*names, *(f"new{index}" for index in range(50))], Draw(val=0.2), Findings(), "")["val"])
    assert len(before - after) < 20


def test_too_few_images_is_an_error() -> None:
    findings = Findings()
    assert draw_splits(["a", "b"], Draw(val=0.2, test=0.2), findings, "pictures") == {}
    assert findings.sentences("error") == ["pictures: 2 images cannot be divided into train, val, test; add images"]
