"""How much time and memory large inputs take, on made-up data of the size of COCO 2017.

    python benchmarks/size.py                       # everything, about 15 minutes on two cores and 1.5 GB of disk
    python benchmarks/size.py data comparison       # some parts
    python benchmarks/size.py data --scale 0.01     # a hundredth of the images, to see that it works

Every part runs in a process of its own, so that its peak of memory is its own.
"""

import json
import os
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from measuring import Figures, Part, private_mb, run_parts
from simulated import Scene, file_name, make_detections, make_scene, write_annotations, write_images, write_run

TRAIN, TRAIN_BOXES = 118_287, 860_001
VAL, VAL_BOXES = 5_000, 36_781
RUNS, RESAMPLES = 20, 1_000
PARAMS = Path("params")


def train_scene(scale: float) -> Scene:
    return make_scene(round(TRAIN * scale), round(TRAIN_BOXES * scale))


def val_scene(scale: float) -> Scene:
    return make_scene(round(VAL * scale), round(VAL_BOXES * scale), seed=1)


def generate(figures: Figures) -> None:
    for name, scene in (("train", train_scene(figures.scale)), ("val", val_scene(figures.scale))):
        write_annotations(scene, figures.work / f"raw/annotations/{name}.json", outlines=True)
        write_images(scene, figures.work / f"raw/{name}")
        size = (figures.work / f"raw/annotations/{name}.json").stat().st_size
        figures.say(f"{name}: {scene.images:,} images, {len(scene.boxes):,} boxes, {size / 1e6:,.0f} MB of annotations")


def prepare(figures: Figures) -> None:
    from tood.config.datasets import CocoDataset
    from tood.data.prepare import prepare_dataset

    splits = {name: {"images": name, "annotations": f"annotations/{name}.json"} for name in ("train", "val")}
    config = CocoDataset.model_validate(
        {
            "name": "sim",
            "format": "coco",
            "root": str(figures.work / "raw"),
            "splits": splits,
            "duplicates": "keep",  # one picture stands for all of a size
        }
    )
    with figures.timed("prepared"):
        prepare_dataset(config, figures.work / "data", mirror=None, params_root=PARAMS)
    figures.peak("preparing")


def index(figures: Figures) -> None:
    """The targets, then an epoch of two worker processes on pictures without content, which are quickly read."""
    import torch

    import tood.data.dataset as reading
    from tood.config.backbone import PixelsConfig
    from tood.config.images import ImagesConfig
    from tood.data.decode import Decoded
    from tood.data.formats.headers import read_header
    from tood.data.input_sizes import Bounds
    from tood.data.loader import Reading, train_batches
    from tood.data.network_input import NetworkInput
    from tood.data.prepared import open_prepared
    from tood.data.split_table import SplitTable
    from tood.data.training_targets import TrainingTargets

    figures = Figures(figures.work, figures.scale)  # torch is imported now
    with figures.timed("digests verified and targets ready"):
        prepared = open_prepared(figures.work / "data")
        split = prepared.split("train")
        found = TrainingTargets.of(SplitTable.of_split(split, prepared.classes), drop_empty=True)
    figures.peak(f"{len(found.boxes):,} targets in {len(found):,} images")

    def blank(path: Path, bounds: Bounds | None) -> Decoded:
        width, height = read_header(path).size
        return Decoded(torch.zeros(3, height, width, dtype=torch.uint8), (width, height))

    reading.decode_for = blank
    given = NetworkInput(ImagesConfig(short=32, long=64, jitter=(32, 48)), PixelsConfig())
    dataset = reading.DetectionDataset(found, split.images, given, train=True, seed=0)
    batches = train_batches(dataset, batch=16, seed=0, epoch=1, rank=0, world=1, reading=Reading(workers=2))
    seen: list[list[float]] = []
    with figures.timed("an epoch of two workers"):
        for number, _ in enumerate(batches):
            if number % max(1, len(found) // 16 // 8) == max(1, len(found) // 16 // 8) - 1:
                seen.append([private_mb(pid) for pid in _children()])
    for worker in range(2):
        figures.say(
            f"worker {worker}, private MB over the epoch: " + " ".join(f"{one[worker]:.0f}" for one in seen[:8])
        )
    figures.peak("parent over the epoch")


def _children() -> list[int]:
    pid = os.getpid()
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()][:2]


def evaluation(figures: Figures) -> None:
    from tood.data.split_table import SplitTable
    from tood.evaluation.coco_metrics import evaluate_detections
    from tood.io.read import read_json

    scene = val_scene(figures.scale)
    write_annotations(scene, figures.work / "val.json", outlines=False)
    (figures.work / "detections.json").write_text(json.dumps(make_detections(scene)))
    with figures.timed("annotations and detections read"):
        table, detections = SplitTable.of_json(figures.work / "val.json"), read_json(figures.work / "detections.json")
    with figures.timed(f"evaluated, {scene.images:,} images, {len(detections):,} detections"):
        result = evaluate_detections(table, detections)
    figures.peak("evaluation")
    _with_pycocotools(result.stats, figures)


def _with_pycocotools(stats: Any, figures: Figures) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    started = time.perf_counter()
    with redirect_stdout(StringIO()):
        truth = COCO(str(figures.work / "val.json"))
        truth.dataset["info"] = {}
        reference = COCOeval(truth, truth.loadRes(str(figures.work / "detections.json")), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    figures.say(f"the same by pycocotools, reading included: {time.perf_counter() - started:.1f} s")
    equal = [-1.0 if value is None else value for value in stats.values()] == reference.stats.tolist()
    figures.say(f"the twelve numbers are {'equal to the last bit' if equal else 'DIFFERENT'}: AP {stats['AP']:.6f}")


def runs(figures: Figures) -> None:
    """Write what the comparison reads; not part of what is measured."""
    scene = val_scene(figures.scale)
    write_annotations(scene, figures.work / "val.json", outlines=False)
    write_images(scene, figures.work / "images")
    for number in range(RUNS):
        detections = make_detections(scene, 100, 0.6 + 0.01 * number, number)
        write_run(figures.work / f"runs/run{number:02d}", figures.work / "val.json", detections)


def comparison(figures: Figures) -> None:
    from tood.data.prepared import PreparedSplit
    from tood.reporting.comparison import ComparisonStudy, Row, compare
    from tood.reporting.figures import draw_figures
    from tood.reporting.report import write_report
    from tood.reporting.run_folder import RunFolder
    from tood.reporting.table_files import write_tables

    names = [f"run{number:02d}" for number in range(RUNS)]
    rows = tuple(Row(name, "made up", "none", "none", (RunFolder(figures.work / "runs" / name),)) for name in names)
    split = PreparedSplit("val", figures.work / "val.json", figures.work / "images", VAL, VAL_BOXES, "")
    study = ComparisonStudy("size", "Size", "", "sim", names[0], rows, split)
    cores = len(os.sched_getaffinity(0))
    with figures.timed(f"{RUNS} runs compared by {cores} processes, {RESAMPLES:,} resamples"):
        compared = compare(study, resamples=RESAMPLES, processes=cores)
    with figures.timed("tables, figures and report"):
        write_tables(compared, figures.work / "out")
        write_report(compared, draw_figures(compared, figures.work / "out/figures"), figures.work / "out/report.html")
    figures.peak("comparison, the first process")


def decoding(figures: Figures) -> None:
    """What one worker does: pictures from files to padded batches of 800x1333."""
    import torch

    from tood.config.backbone import PixelsConfig
    from tood.config.images import ImagesConfig
    from tood.data.dataset import DetectionDataset
    from tood.data.loader import train_batches
    from tood.data.network_input import NetworkInput
    from tood.data.prepared import PreparedSplit
    from tood.data.split_table import SplitTable
    from tood.data.training_targets import TrainingTargets

    scene = make_scene(256, 256 * 7, seed=3)
    write_annotations(scene, figures.work / "few.json", outlines=False)
    write_images(scene, figures.work / "few")
    size = sum((figures.work / "few" / file_name(number)).stat().st_size for number in range(1, 257)) / 256
    torch.set_num_threads(1)
    split = PreparedSplit("train", figures.work / "few.json", figures.work / "few", 256, 256 * 7, "")
    found = TrainingTargets.of(SplitTable.of_split(split))
    for name, images in (("800x1333", ImagesConfig()), ("480-800x1333", ImagesConfig(jitter=(480, 800)))):
        dataset = DetectionDataset(found, split.images, NetworkInput(images, PixelsConfig()), train=True, seed=0)
        started = time.process_time()
        for _ in train_batches(dataset, batch=16, seed=0, epoch=1, rank=0, world=1):
            pass
        rate = 256 / (time.process_time() - started)
        figures.say(f"{name}: {rate:.0f} images/s in one process, JPEG files of {size / 1000:.0f} kB")


PARTS: dict[str, tuple[Part, ...]] = {
    "data": (generate, prepare, index),
    "evaluation": (evaluation,),
    "comparison": (runs, comparison),
    "decoding": (decoding,),
}

if __name__ == "__main__":
    run_parts(PARTS, __doc__)
