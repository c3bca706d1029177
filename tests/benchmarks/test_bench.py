"""``tood bench``: pairs of work and yardstick in turns, a ratio in every row."""

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tood.benchmarks.backbone_yardstick import plain_backbone
from tood.benchmarks.group_works import DrawnSteps, group_works, scaled
from tood.benchmarks.peaks import bf16_peak
from tood.benchmarks.random_scenes import SceneSize, make_batch, sparse_predictions
from tood.benchmarks.timing import Timing, Work, count_flops, time_in_turns
from tood.benchmarks.timing_table import TimingRow, as_table
from tood.benchmarks.workloads import SHARE_ABOVE, Setup, training_works
from tood.config.backbone import BackboneConfig, PixelsConfig
from tood.config.blocks import load_block
from tood.config.datasets import ShapesDataset
from tood.config.images import ImagesConfig
from tood.config.method import MethodConfig
from tood.config.schedule import ScheduleConfig
from tood.data.dataset import DetectionDataset
from tood.data.network_input import NetworkInput
from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.data.synthetic.shapes import CLASSES
from tood.data.synthetic.shapes_files import generate_shapes
from tood.data.training_targets import TrainingTargets
from tood.io.errors import UserError
from tood.training.step import StepLosses
from tood.verbs.bench import Request, bench

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TINY = Request(
    parts=[],
    methods="tood",
    against=None,
    backbone="light",
    image="32x60",
    images=1,
    objects=2,
    dtype="float32",
    compiled=False,
    contiguous=False,
    threads=0,
    repeats=2,
    warmup=0,
    seed=0,
    sync_check=False,
)


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_every_part_gives_a_ratio_and_valid_json(tmp_path: Path, said: list[str]) -> None:
    bench(TINY, "0", tmp_path / "speed.json")
    content: dict[str, Any] = json.loads((tmp_path / "speed.json").read_text())
    rows = content["rows"]
    assert [(row["part"], row["work"]) for row in rows] == [
        ("training", "tood"),
        ("inference", "tood"),
        ("assignment", "TAL"),
        ("assignment", "ATSS"),
        ("postprocess", "tood"),
    ]
    for row in rows:
        ratios = [work / yardstick for work, yardstick in row["pairs_ms"]]
        assert len(ratios) == 2
        assert row["ratio"] == pytest.approx(statistics.median(ratios), rel=0.05, abs=1e-3)
        assert row["peak_memory_bytes"] is row["share_of_bf16_peak"] is None
        (line,) = [line for line in said if line.split()[:2] == [row["part"], row["work"]] and "–" in line]
        assert float(line.split()[2]) == pytest.approx(row["ratio"], abs=1e-3)
    assert content["settings"]["sizes"]["assignment"] == {"height": 32, "width": 60, "images": 1, "objects": 2}
    assert content["machine"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parts": ["groups"]}, "the part 'groups' and --dataset NAME"),
        ({"dataset": "demo"}, "the part 'groups' and --dataset NAME"),
        ({"parts": ["trainings"]}, "there is no part 'trainings'; did you mean 'training'?"),
        ({"against": "ats"}, "--against ats: there is no params/methods/ats.yaml; did you mean 'atss'?"),
        ({"methods": "tod"}, "--methods tod: there is no params/methods/tod.yaml; did you mean 'tood'?"),
        ({"backbone": "r5"}, "--backbone r5: there is no params/backbones/r5.yaml"),
        ({"image": "640"}, "--image 640: must be HEIGHTxWIDTH"),
        ({"image": "0x64"}, "--image 0x64: must be HEIGHTxWIDTH"),
        ({"dtype": "tf32"}, "--dtype tf32: is a number format of GPUs"),
        ({"sync_check": True}, "--sync-check: looks for waits for a GPU"),
        ({"sync_check": True, "parts": ["assignment"]}, "--sync-check: is made of training steps"),
    ],
)
def test_wrong_options_give_one_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]*[.?]$") as raised:
        bench(replace(TINY, **changes), "0", None)
    assert words in str(raised.value)


def test_work_and_yardstick_take_turns() -> None:
    calls: list[str] = []
    work = Work("part", "name", "other", lambda: calls.append("work"), lambda: calls.append("yardstick"), 1)
    timing = time_in_turns(work, CPU, repeats=3, warmup=1)
    assert calls == ["work", "yardstick"] * 4
    assert len(timing.work_ms) == len(timing.yardstick_ms) == 3


def test_the_ratio_is_the_median_over_pairs() -> None:
    timing = Timing([1.0, 20.0, 3.0, 8.0, 5.0], [1.0, 10.0, 1.0, 2.0, 1.0], None)
    assert timing.ratio == 3.0
    assert timing.quartiles == pytest.approx((1.5, 4.5))
    assert Timing([1.0, 2.0], [1.0, 1.0], None).quartiles == (1.0, 2.0)


def test_speed_and_share_of_the_peak() -> None:
    work = Work("training", "tood", "backbone", print, print, images=4, flops=10**12)
    row = TimingRow(work, Timing([20.0], [10.0], 3 * 10**9), peak=1e14)
    assert row.images_per_second == pytest.approx(200)
    assert row.share_of_peak == pytest.approx(0.5)
    heading, line = as_table([row])
    assert line.split() == [
        "training",
        "tood",
        "2.000",
        "2.000–2.000",
        "20.0",
        "20.0",
        "10.0",
        "200.0",
        "3.00",
        "50.0",
        "%",
        "backbone",
    ]
    assert heading.index("yardstick", heading.index("bf16")) == line.index("backbone")


@pytest.mark.parametrize(
    ("card", "teraflops"),
    [
        ("NVIDIA H200", 989.5),
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA A10", 125.0),
        ("NVIDIA A10G", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_peaks_are_known_by_the_name_of_the_card(card: str, teraflops: float | None) -> None:
    assert bf16_peak(card) == (None if teraflops is None else teraflops * 1e12)


def test_scenes_are_as_asked_for() -> None:
    size = SceneSize(100, 150, images=2, objects=30)
    batch = make_batch(size, CPU, 0)
    assert batch.images.shape == (2, 3, 128, 160)
    assert (batch.boxes >= 0).all()
    assert (batch.boxes <= torch.tensor([150.0, 100, 150, 100])).all()
    assert (batch.boxes[..., 2:] > batch.boxes[..., :2]).all()
    sparse = sparse_predictions(size, CPU, share=SHARE_ABOVE, threshold=0.05, seed=0)
    assert (sparse.scores() > 0.05).double().mean().item() == pytest.approx(0.01, rel=0.2)


def test_the_yardstick_freezes_what_the_detectors_freeze() -> None:
    backbone = plain_backbone()
    assert sum(p.numel() for p in backbone.parameters() if not p.requires_grad) == 225_344
    assert not any(module.training for module in backbone.modules())


def test_operations_are_counted_forward_and_backward() -> None:
    layer = torch.nn.Linear(8, 4, bias=False)
    values = torch.zeros(2, 8, requires_grad=True)
    assert count_flops(lambda: layer(values.detach())) == 2 * 2 * 8 * 4
    assert count_flops(lambda: layer(values).sum().backward()) == 3 * 2 * 2 * 8 * 4


def test_a_timed_training_step_trains() -> None:
    method = MethodConfig.model_validate(
        {"name": "tood", "head": {"kind": "task_aligned"}, "criterion": {"kind": "task_aligned"}}
    )
    backbone = BackboneConfig.model_validate({"name": "light", "kind": "light", "width": 32, "norm_groups": 4})
    size = SceneSize(64, 96, images=2, objects=2)
    (work,) = training_works([method], None, backbone, ScheduleConfig(name="1x"), size, Setup(CPU))
    found = work.run()
    assert isinstance(found, StepLosses)
    losses = found.losses
    assert {"loss_cls", "loss_bbox"} == set(losses)
    assert all(math.isfinite(value) and value > 0 for value in losses.values())


def test_another_methods_step_is_the_yardstick_where_one_is_named(said: list[str]) -> None:
    bench(replace(TINY, parts=["training", "inference"], methods="gfl", against="atss"), "0", None)
    rows = [line.split() for line in said if "\u2013" in line]
    assert [(row[0], row[1], row[-2:]) for row in rows] == [
        ("training", "gfl", ["training", "atss"]),
        ("inference", "gfl", ["inference", "atss"]),
    ]


LIGHT = BackboneConfig(name="light", kind="light", width=32, norm_groups=8)


def test_steps_in_groups_are_timed_beside_whole_ones(tmp_path: Path) -> None:
    splits = {"train": {"images": 16, "seed": 3}}
    config = ShapesDataset.model_validate({"format": "shapes", "name": "s", "size": 64, "splits": splits})
    generate_shapes(config, tmp_path)
    split = PreparedSplit("train", tmp_path / "annotations/train.json", tmp_path / "images", 16, 0, "")
    targets = TrainingTargets.of(SplitTable.of_split(split, CLASSES))
    images = scaled(ImagesConfig(short=800, long=1333, jitter=(480, 800)), 64, 96)
    assert images.jitter == (38, 64)
    schedule = ScheduleConfig(name="x", batch=8, group=2, images=images)
    dataset = DetectionDataset(targets, split.images, NetworkInput(images, PixelsConfig()), train=True, seed=0)
    drawn = DrawnSteps(dataset, schedule, steps=3)
    for group, most in ((2, 4), (None, 1)):
        steps = drawn.of(group)
        assert [sum(len(batch.images) for batch in step) for step in steps] == [8, 8, 8]
        assert max(len(step) for step in steps) <= most
    method: MethodConfig = load_block(ROOT / "params", "methods", "atss", MethodConfig, "atss")
    (work,) = group_works([method], LIGHT, drawn, Setup(device=CPU))
    assert (work.part, work.name, work.images) == ("groups", "atss, groups of 2", 8)
    for run in (work.run, work.yardstick):
        found = run()
        assert isinstance(found, StepLosses)
        assert all(loss.isfinite() for loss in found.losses.values())


@pytest.mark.long
def test_exported_detectors_are_timed_beside_pytorch(tmp_path: Path) -> None:
    bench(replace(TINY, parts=["export"], image="96x128"), "0", tmp_path / "speed.json")
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert [(row["work"], row["yardstick"]) for row in rows] == [
        ("tood, ONNX float32", "the same in PyTorch"),
        ("tood, ONNX int8", "the same in PyTorch"),
    ]
    assert all(row["work_ms_p95"] >= row["work_ms"] > 0 for row in rows)
