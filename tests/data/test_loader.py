"""Batches: the plan, and the same pixels whatever the number of workers and processes."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batch_makers import Deadly
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from tood.config.backbone import PixelsConfig
from tood.config.datasets import ShapesDataset
from tood.config.images import ImagesConfig
from tood.data import loader
from tood.data.batch import Batch, collate, rounded_slots
from tood.data.dataset import DetectionDataset, Sample
from tood.data.epoch_plan import plan_epoch, steps_per_epoch
from tood.data.fork_server import ForkServer
from tood.data.loader import Loader, Reading, server_for, train_batches
from tood.data.network_input import NetworkInput
from tood.data.planned_batches import PassPlan, TrainingPlan
from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.data.synthetic.shapes import CLASSES
from tood.data.synthetic.shapes_files import generate_shapes
from tood.data.training_targets import TrainingTargets
from tood.io.errors import TransientError, UserError

COUNT, BATCH = 22, 4


def make(folder: Path) -> DetectionDataset:
    splits = {"train": {"images": COUNT, "seed": 3}}
    config = ShapesDataset.model_validate({"format": "shapes", "name": "s", "size": 64, "splits": splits})
    generate_shapes(config, folder)
    split = PreparedSplit("train", folder / "annotations/train.json", folder / "images", COUNT, 0, "")
    targets = TrainingTargets.of(SplitTable.of_split(split, CLASSES))
    given = NetworkInput(ImagesConfig(short=64, long=96, jitter=(40, 80)), PixelsConfig())
    return DetectionDataset(targets, split.images, given, train=True, seed=4)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    return make(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


@pytest.fixture(params=[(0, False), (1, False), (3, False), (2, True)], ids=["here", "1", "3", "2 of a server"])
def reading(request: pytest.FixtureRequest, server: ForkServer) -> Reading:
    workers, served = request.param
    return Reading(workers, server=server if served else None)


def read(
    dataset: DetectionDataset,
    epoch: int = 1,
    rank: int = 0,
    world: int = 1,
    reading: Reading = Reading(),  # noqa: B008
    start: int = 0,
) -> list[Batch]:
    """The steps, of one group each."""
    return [batch for (batch,) in steps_of(dataset, epoch, rank, world, reading, start, None)]


def steps_of(
    dataset: DetectionDataset, epoch: int, rank: int, world: int, reading: Reading, start: int, group: int | None
) -> list[tuple[Batch, ...]]:
    return list(
        train_batches(
            dataset,
            batch=BATCH,
            seed=9,
            epoch=epoch,
            rank=rank,
            world=world,
            reading=reading,
            start_step=start,
            group=group,
        )
    )


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for (_, x), (_, y) in zip(a._tensors(), b._tensors(), strict=True))


def all_same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) > 0 and all(same(x, y) for x, y in zip(a, b, strict=True))


@settings(max_examples=150, deadline=None)
@given(
    landscape=st.lists(st.booleans(), min_size=1, max_size=60),
    batch=st.integers(1, 17),
    seed=st.integers(-5, 5),
    epoch=st.integers(0, 30),
)
def test_plan_shows_every_image_in_batches_of_one_orientation(
    landscape: list[bool], batch: int, seed: int, epoch: int
) -> None:
    flags = np.array(landscape)
    whole = plan_epoch(flags, batch=batch, seed=seed, epoch=epoch)
    plan = whole.positions
    assert not whole.occurrences.any()
    assert (whole.scales == 1).all()
    assert plan.shape == (-(-len(flags) // batch), batch)
    seen = Counter(plan.ravel().tolist())
    assert set(seen) == set(range(len(flags)))
    repeated = plan.size - len(flags)
    assert repeated < batch
    if len(flags) >= batch:
        assert max(seen.values()) - 1 <= min(1, repeated)
    mixed = [step for step in plan if len(set(flags[step].tolist())) == 2]
    assert len(mixed) <= 2
    assert np.array_equal(plan, plan_epoch(flags, batch=batch, seed=seed, epoch=epoch).positions)


def test_plans_differ_by_seed_and_epoch() -> None:
    flags = np.arange(40) % 2 == 0
    plans = {plan_epoch(flags, batch=8, seed=s, epoch=e).positions.tobytes() for s in range(4) for e in range(4)}
    assert len(plans) == 16


def test_an_epoch_has_the_steps_announced_and_every_image(dataset: DetectionDataset) -> None:
    batches = read(dataset)
    assert len(batches) == steps_per_epoch(dataset.visits, BATCH) == 6
    ids = torch.cat([batch.image_ids for batch in batches]).tolist()
    assert len(ids) == 24
    assert set(ids) == set(dataset.targets.image_ids.tolist())
    assert not all_same(batches, read(dataset, epoch=2))


def test_how_batches_are_read_changes_nothing(dataset: DetectionDataset, reading: Reading) -> None:
    assert all_same(read(dataset), read(dataset, reading=reading))


@pytest.mark.parametrize("start", [0, 8])
def test_steps_are_those_of_their_epochs_through_stops_and_new_beginnings(
    dataset: DetectionDataset, reading: Reading, start: int
) -> None:
    whole = [batch for epoch in range(4) for batch in read(dataset, epoch)]
    plan = TrainingPlan(dataset, batch=BATCH, seed=9, rank=0, world=1)
    assert plan.per_epoch == 6
    with Loader(dataset, plan, reading) as loader:
        with closing(loader.read(range(start, 24))) as stopped:
            found = [next(stopped)[0] for _ in range(9)]
        found += [batch for (batch,) in loader.read(range(start + 9, 24))]
        assert all_same(found, whole[start:])
        assert all_same([batch for (batch,) in loader.read(range(3, 5))], whole[3:5])


def test_the_first_batches_of_an_epoch_are_made_while_the_last_are_used(dataset: DetectionDataset) -> None:
    plan = TrainingPlan(dataset, batch=BATCH, seed=9, rank=0, world=1)
    with Loader(dataset, plan, Reading(workers=1)) as loader, closing(loader.read(range(12))) as steps:
        for _ in range(plan.per_epoch):
            next(steps)
        assert loader._processes is not None
        (worker,) = loader._processes._workers
        assert worker.channel.answers(60)
        assert all_same([next(steps)[0]], read(dataset, epoch=1)[:1])


def test_a_split_is_read_again_and_again_by_the_same_processes(dataset: DetectionDataset, reading: Reading) -> None:
    plain = DetectionDataset(dataset.targets, dataset.images, dataset.config, train=False, seed=0)
    plan = PassPlan(plain, batch=1, rank=0, world=1)
    whole = list(loader.test_batches(plain, batch=1, rank=0, world=1))
    with Loader(plain, plan, reading) as images:
        workers = images._processes and list(images._processes._workers)
        for _ in range(3):
            assert all_same([batch for (batch,) in images.read(range(len(plan)))], whole)
            if reading.server is None and images._processes is not None:
                assert images._processes._workers == workers


def test_processes_are_forked_by_a_server_where_there_is_a_gpu() -> None:
    with server_for(torch.device("cpu")) as none, server_for(torch.device("cuda"), workers=0) as unused:
        assert (none, unused) == (None, None)
    with server_for(torch.device("cuda")) as server:
        assert isinstance(server, ForkServer)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_together_see_what_one_would(dataset: DetectionDataset, world: int) -> None:
    together = read(dataset)
    shares = [read(dataset, rank=rank, world=world) for rank in range(world)]
    for step, whole in enumerate(together):
        parts = [share[step] for share in shares]
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert torch.equal(torch.cat([part.image_ids for part in parts]), whole.image_ids)
        assert torch.equal(torch.cat([part.sizes for part in parts]), whole.sizes)
        assert sum(int(part.valid.sum()) for part in parts) == int(whole.valid.sum())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_group_is_padded_for_itself_in_whatever_processes_it_is(
    dataset: DetectionDataset, world: int, workers: int
) -> None:
    """With groups of two images and steps of four; with four processes each computes half a group."""
    wide = dataset.targets.widths >= dataset.targets.heights
    plan = plan_epoch(wide, batch=BATCH, seed=9, epoch=1, group=2).positions
    shares = [steps_of(dataset, 1, rank, world, Reading(workers), 0, 2) for rank in range(world)]
    sizes = set()
    for step, positions in enumerate(plan):
        batches = [batch for share in shares for batch in share[step]]
        images = {
            int(number): (int(group), tuple(batch.images.shape[2:]), batch.images[row], batch.sizes[row])
            for batch in batches
            for row, (number, group) in enumerate(zip(batch.image_ids, batch.group, strict=True))
        }
        numbers = dataset.targets.image_ids[positions].tolist()
        assert set(images) == set(numbers)
        for group, pair in enumerate((numbers[:2], numbers[2:])):
            assert {images[number][0] for number in pair} == {group}
            largest = torch.stack([images[number][3] for number in pair]).amax(0)
            padded = tuple((-(-largest // 32) * 32).tolist())
            assert {images[number][1] for number in pair} == {padded}
        sizes |= {len({batch.images.shape[2:] for batch in batches})}
        for share in shares:
            shapes = [batch.images.shape[2:] for batch in share[step]]
            assert len(shapes) == len(set(shapes)), "what has one size is computed together"
    assert sizes == {1, 2}


def test_a_group_that_cannot_be_shared_out_is_refused(dataset: DetectionDataset) -> None:
    with pytest.raises(UserError, match=r"schedule\.group: 3 images .* processes of 4"):
        steps_of(dataset, 1, 0, 1, Reading(), 0, 3)


@pytest.mark.parametrize("start", [1, 5, 6])
def test_starting_in_the_middle_continues_the_epoch(dataset: DetectionDataset, start: int) -> None:
    rest, whole = read(dataset, start=start), read(dataset)[start:]
    assert len(rest) == len(whole)
    assert all(same(a, b) for a, b in zip(rest, whole, strict=True))


def test_error_of_a_worker_arrives_as_the_sentence_it_was(tmp_path: Path, reading: Reading) -> None:
    broken = make(tmp_path)
    path = broken.images / str(broken.targets.file_names[5])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=path.name) as caught:
        read(broken, reading=reading)
    assert str(caught.value).startswith(str(path))
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("served", [False, True])
def test_killed_worker_is_reported_in_one_sentence(dataset: DetectionDataset, server: ForkServer, served: bool) -> None:
    deadly = Deadly(dataset.targets, dataset.images, dataset.config, train=True, seed=0)
    with pytest.raises(UserError, match="was killed, probably for lack of"):
        read(deadly, reading=Reading(1, server=server if served else None))


def with_slots(batch: Batch, slots: int) -> Batch:
    """The same with empty slots behind."""
    extra = slots - batch.labels.shape[1]
    boxes, labels, valid = batch.boxes, batch.labels, batch.valid
    return replace(
        batch, boxes=pad(boxes, (0, 0, 0, extra)), labels=pad(labels, (0, extra)), valid=pad(valid, (0, extra))
    )


def test_on_gpus_the_slots_are_a_power_of_two() -> None:
    assert [rounded_slots(objects) for objects in (0, 1, 8, 9, 16, 17, 2000)] == [8, 8, 8, 16, 16, 32, 2048]


def test_pinning_ahead_changes_nothing(
    dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch, reading: Reading
) -> None:
    """On a machine without GPU a copy stands in for the pinned one."""
    reading = replace(reading, pin_memory=True)
    before = set(multiprocessing.active_children())
    pinned = []

    def pin(batch: Batch) -> Batch:
        pinned.append(batch)
        return Batch(**{name: value.clone() for name, value in batch._tensors()})

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(Batch, "pin_memory", pin)
    plan = TrainingPlan(dataset, batch=BATCH, seed=9, rank=0, world=1)
    with Loader(dataset, plan, reading) as loader:
        for epoch in range(2):
            batches = loader.read(range(epoch * 6, epoch * 6 + 6))
            expected = [with_slots(batch, rounded_slots(batch.labels.shape[1])) for batch in read(dataset, epoch)]
            assert all_same(expected, [batch.normalised(dataset.config.pixels) for (batch,) in batches])
        assert len(pinned) == 12
        stopped = loader.read(range(6))
        next(stopped)
        stopped.close()
        assert set(multiprocessing.active_children()) <= before
        (again,) = next(loader.read(range(4, 6)))
        fifth = read(dataset, 0)[4]
        expected = [with_slots(fifth, rounded_slots(fifth.labels.shape[1]))]
        assert all_same(expected, [again.normalised(dataset.config.pixels)])
    deadly = Deadly(dataset.targets, dataset.images, dataset.config, train=True, seed=0)
    if reading.workers:
        with pytest.raises(TransientError, match="was killed"):
            read(deadly, reading=reading)


def test_batches_that_cannot_be_made_are_refused(dataset: DetectionDataset) -> None:
    with pytest.raises(UserError, match=r"schedule\.batch: 4 images cannot be shared out to 3"):
        read(dataset, world=3)


@pytest.mark.parametrize("world", [1, 3])
def test_test_batches_hold_each_image_once_at_its_own_padded_size(dataset: DetectionDataset, world: int) -> None:
    plain = DetectionDataset(dataset.targets, dataset.images, dataset.config, train=False, seed=0)
    batches = [batch for rank in range(world) for batch in loader.test_batches(plain, batch=5, rank=rank, world=world)]
    ids = torch.cat([batch.image_ids for batch in batches]).tolist()
    assert sorted(ids) == dataset.targets.image_ids.tolist()
    assert max(len(batch.image_ids) for batch in batches) == 5
    for batch in batches:
        alone = -(-batch.sizes // 32) * 32
        assert (alone == torch.tensor(batch.images.shape[-2:])).all()


def test_collate_pads_with_zeros_and_keeps_everything() -> None:
    samples = [
        Sample(
            torch.full((3, 33, 20), 255, dtype=torch.uint8),
            (66, 40),
            8,
            torch.ones(2, 4),
            torch.tensor([1, 3]),
        ),
        Sample(
            torch.full((3, 10, 40), 255, dtype=torch.uint8),
            (30, 80),
            5,
            torch.ones(0, 4),
            torch.zeros(0).long(),
        ),
    ]
    batch = collate(samples, PixelsConfig())
    assert batch.images.shape == (2, 3, 64, 64)
    assert (batch.images[0, :, :33, :20] > 2).all()
    assert (batch.images[1, :, :10, :40] > 2).all()
    assert int((batch.images != 0).sum()) == 3 * (33 * 20 + 10 * 40)
    assert batch.sizes.tolist() == [[33, 20], [10, 40]]
    assert batch.original_sizes.tolist() == [[66, 40], [30, 80]]
    torch.testing.assert_close(batch.scales, torch.tensor([[0.5, 0.5], [0.5, 1 / 3]]))
    assert batch.image_ids.tolist() == [8, 5]
    assert batch.boxes.shape == (2, 2, 4)
    assert batch.labels.tolist() == [[1, 3], [0, 0]]
    assert batch.valid.tolist() == [[True, True], [False, False]]
    assert collate(samples, PixelsConfig(), (96, 64)).images.shape == (2, 3, 64, 96)
    empty = collate(samples[1:], PixelsConfig())
    assert empty.boxes.shape == (1, 0, 4)
    assert empty.valid.shape == (1, 0)
    assert same(batch.to("cpu"), batch)


def test_bytes_normalised_on_the_device_are_what_the_loader_normalises() -> None:
    pixels = PixelsConfig()
    noise = torch.Generator().manual_seed(0)
    samples = [
        Sample(
            torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=noise),
            (height, width),
            number,
            torch.zeros(0, 4),
            torch.zeros(0, dtype=torch.int64),
        )
        for number, (height, width) in enumerate([(33, 20), (10, 40), (64, 64)])
    ]
    here, there = collate(samples, pixels), collate(samples, pixels, for_gpu=True)
    assert there.images.dtype == torch.uint8
    assert torch.equal(there.normalised(pixels).images, here.images)
    assert here.normalised(pixels) is here
    assert 4 * there.images.nbytes == here.images.nbytes


def test_a_training_pads_to_the_sizes_that_its_schedule_allows(dataset: DetectionDataset) -> None:
    few, many = (
        DetectionDataset(
            dataset.targets,
            dataset.images,
            NetworkInput(ImagesConfig(short=64, long=256, jitter=(40, 250), padded_sizes=most), PixelsConfig()),
            train=True,
            seed=dataset.seed,
        )
        for most in (2, None)
    )
    sizes, more = (
        {tuple(batch.images.shape[2:]) for epoch in range(3) for batch in read(one, epoch)} for one in (few, many)
    )
    assert 1 <= len(sizes) <= 2 < len(more)
    for one, other in zip(read(few), read(many), strict=True):
        assert torch.equal(one.sizes, other.sizes)
        height, width = other.images.shape[2:]
        assert torch.equal(one.images[..., :height, :width], other.images)
        assert not one.images[..., height:, :].any()
        assert not one.images[..., width:].any()
    assert all_same(read(few), read(few, reading=Reading(2)))
