"""What a schedule leaves to the data: the size of the network's input, and the number of steps."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tood.config.images import FitConfig, ImagesConfig
from tood.config.schedule import ScheduleConfig
from tood.config.study import FittedConfig
from tood.data.schedule_fit import ScheduleFit, fit_images, fit_schedule_to, largest_side
from tood.data.split_table import SplitTable

Sizes = list[tuple[int, int]]


def table_of(folder: Path, sizes: Sizes, shares: list[float], empty: int = 0) -> SplitTable:
    """Images of sizes (w, h), each with square-like objects of shares of its sides; more of the first without any."""
    every = [*sizes, *[sizes[0]] * empty]
    images = [{"id": k, "file_name": f"{k}.png", "width": w, "height": h} for k, (w, h) in enumerate(every)]
    annotations = [
        {"image_id": k, "category_id": 1, "bbox": [0, 0, w * share, h * share], "area": w * h, "iscrowd": 0}
        for k, (w, h) in enumerate(sizes)
        for share in shares
    ]
    path = folder / "train.json"
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    path.write_text(json.dumps(content))
    return SplitTable.of_json(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fit")


SIDES = st.integers(100, 3000)
FITS = st.builds(
    lambda least, more, side, quantile: FitConfig(least=least, most=least + more, object_side=side, quantile=quantile),
    st.integers(64, 700),
    st.integers(0, 700),
    st.floats(4, 64),
    st.floats(0, 1),
)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=4),
    shares=st.lists(st.floats(0.02, 0.9), min_size=1, max_size=5),
    rule=FITS,
)
def test_the_size_is_what_small_objects_need_within_bounds(
    folder: Path, sizes: Sizes, shares: list[float], rule: FitConfig
) -> None:
    given = ImagesConfig(fit=rule, flip=0.25)
    found = fit_images(given, table_of(folder, sizes, shares))
    assert found.fit is None
    assert found.flip == 0.25
    assert found.short % 32 == found.long % 32 == 0
    assert 32 <= found.short <= found.long
    side = np.clip(rule.object_side / np.quantile(shares * len(sizes), rule.quantile), rule.least, rule.most)
    shape = np.median([min(size) / max(size) for size in sizes])
    assert found.short == pytest.approx(max(32, side * shape**0.5), abs=16.001)
    assert found.long == pytest.approx(side / shape**0.5, abs=16.001)
    assert ImagesConfig.model_validate(found.model_dump(mode="json")) == found


@settings(max_examples=40, deadline=None)
@given(shares=st.lists(st.floats(0.02, 0.4), min_size=1, max_size=5), larger=st.floats(1.0, 2.4), rule=FITS)
def test_larger_objects_never_need_larger_images(
    folder: Path, shares: list[float], larger: float, rule: FitConfig
) -> None:
    images, sizes = ImagesConfig(fit=rule), [(400, 300), (300, 300)]
    small = fit_images(images, table_of(folder, sizes, shares))
    large = fit_images(images, table_of(folder, sizes, [share * larger for share in shares]))
    assert large.short <= small.short
    assert large.long <= small.long


def test_by_hand(folder: Path) -> None:
    """Of objects of 6 % of the sides 24 px are 400 px of 4:3: 346 x 462, which are 352 x 448 in cells."""
    table = table_of(folder, [(400, 300)], [0.06])
    schedule = ScheduleConfig(name="x", steps=50, images=ImagesConfig(fit=FitConfig()))
    fit = fit_schedule_to(schedule, table)
    assert (fit.fitted.images.short, fit.fitted.images.long) == (352, 448)
    assert fit.typical == fit.small == pytest.approx(0.06 * (352 * 448) ** 0.5)
    assert largest_side(FitConfig(), table) == pytest.approx(0.06 * 640)


def test_without_objects_the_smallest_size_is_enough(folder: Path) -> None:
    table = table_of(folder, [(320, 240), (320, 240)], [])
    schedule = ScheduleConfig(name="x", steps=50, images=ImagesConfig(fit=FitConfig(least=300, most=900)))
    fit = fit_schedule_to(schedule, table)
    assert (fit.fitted.images.short, fit.fitted.images.long) == (256, 352)
    assert (fit.typical, fit.small, fit.images, fit.fitted.steps) == (0, 0, 2, 50)
    assert largest_side(FitConfig(), table) == 0


def test_sizes_that_are_given_stay(folder: Path) -> None:
    images = ImagesConfig(short=100, long=130, jitter=(80, 120))
    assert fit_images(images, table_of(folder, [(400, 300)], [0.01])) is images


def fitted(schedule: ScheduleConfig, folder: Path, images: int, empty: int = 0) -> ScheduleFit:
    return fit_schedule_to(schedule, table_of(folder, [(64, 64)] * images, [0.5], empty))


@pytest.mark.parametrize(("images", "steps"), [(1, 800), (89, 800), (91, 810), (200, 1200), (450, 1800), (800, 2400)])
def test_steps_grow_with_the_root_of_the_images(folder: Path, images: int, steps: int) -> None:
    schedule = ScheduleConfig(name="x", steps={}, batch=8)  # type: ignore[arg-type]
    fit = fitted(schedule, folder, images)
    assert (fit.fitted.steps, fit.images, fit.per_epoch) == (steps, images, -(-images // 8))
    assert fit.epochs == pytest.approx(steps / fit.per_epoch)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 150),
    more=st.integers(0, 100),
    base=st.integers(1, 5000),
    least=st.integers(1, 2000),
    above=st.integers(0, 2000),
)
def test_steps_are_within_their_bounds_and_never_fewer_for_more_images(
    folder: Path, images: int, more: int, base: int, least: int, above: int
) -> None:
    rule = {"base": base, "least": least, "most": least + above}
    schedule = ScheduleConfig.model_validate({"name": "x", "steps": rule})
    few, many = (fitted(schedule, folder, count).fitted.steps for count in (images, images + more))
    assert least <= few <= many <= least + above


def test_epochs_count_the_images_that_are_used(folder: Path) -> None:
    schedule = ScheduleConfig(name="x", epochs=3, milestones=[2], batch=4)
    assert fitted(schedule, folder, 9, empty=5).fitted == FittedConfig(steps=3 * 4, images=schedule.images)
    dropping = schedule.model_copy(update={"drop_empty": True})
    assert fitted(dropping, folder, 9, empty=5).fitted.steps == 3 * 3


def test_repetition_lengthens_an_epoch(folder: Path) -> None:
    """Half of the images have the class, so they are seen sqrt(0.9 / 0.5) times."""
    schedule = ScheduleConfig.model_validate({"name": "x", "steps": 30, "batch": 4, "repeat": {"threshold": 0.9}})
    fit = fitted(schedule, folder, 10, empty=10)
    assert (fit.images, fit.per_epoch, fit.fitted.steps) == (20, 6, 30)
    assert fit.per_epoch == -(-int(np.ceil(10 + 10 * 1.8**0.5)) // 4)
    assert fit.epochs == 5
