"""What the largest inputs take that are meant to work: objects in an image, classes, pixels.

python benchmarks/limits.py                     # everything, about 15 minutes on two cores
python benchmarks/limits.py objects             # 2,000 objects in an image, a training step of every method
python benchmarks/limits.py classes pixels      # 1,000 classes; an image of 12,000 x 9,000 pixels
"""

import time
from pathlib import Path

from measuring import Figures, Part, in_process, peak_mb, run_parts
from PIL import Image
from simulated import make_detections, make_scene, write_annotations, write_images, write_run

PARAMS = Path("params")
FEW, MANY = 20, 2_000  # objects
CLASSES = 1_000
VAL, VAL_BOXES = 5_000, 36_781
PIXELS = (12_000, 9_000)


def objects(figures: Figures) -> None:
    """A step on an image of 800x1333 with few and with many objects; a process for every method and number."""
    for path in sorted((PARAMS / "methods").glob("*.yaml")):
        taken = [in_process(_step, path.stem, objects) for objects in (FEW, MANY)]
        few, many = (f"{seconds:.1f} s, {megabytes:,.0f} MB" for seconds, megabytes in taken)
        figures.say(f"{path.stem:<26} {FEW} objects: {few:<18} {MANY:,} objects: {many}")


def _step(method: str, objects: int, classes: int = 80) -> tuple[float, float]:
    """Seconds and the peak of memory of a step's gradient, float32 on the CPU."""
    import torch

    from tood.benchmarks.random_scenes import SceneSize, make_batch
    from tood.config.backbone import load_backbone
    from tood.config.blocks import load_block
    from tood.config.method import MethodConfig
    from tood.detection.detector import build_criterion, build_detector
    from tood.detection.training_batch import Progress
    from tood.training.processes.distributed import Group
    from tood.training.step import step_gradient

    chosen = load_block(PARAMS, "methods", method, MethodConfig, method)
    torch.manual_seed(0)
    detector = build_detector(chosen, load_backbone("r50", PARAMS, "r50"), classes).train()
    device = torch.device("cpu")
    batch = make_batch(SceneSize(800, 1333, images=1, objects=objects), device, seed=0)
    late = Progress(epoch=10**6, step=10**6, total_steps=10**6)
    started = time.perf_counter()
    step_gradient(detector, build_criterion(chosen), [batch], late, group=Group(rank=0, world=1, device=device))
    return time.perf_counter() - started, peak_mb()


def classes(figures: Figures) -> None:
    """Evaluation and comparison on COCO's validation split with 1,000 classes, then a training step of TOOD."""
    from tood.data.prepared import PreparedSplit
    from tood.data.split_table import SplitTable
    from tood.evaluation.coco_metrics import evaluate_detections
    from tood.reporting.comparison import ComparisonStudy, Row, compare
    from tood.reporting.figures import draw_figures
    from tood.reporting.report import write_report
    from tood.reporting.run_folder import RunFolder
    from tood.reporting.table_files import write_tables

    work, names = figures.work, ("first", "second")
    scene = make_scene(round(VAL * figures.scale), round(VAL_BOXES * figures.scale), classes=CLASSES, seed=1)
    write_annotations(scene, work / "val.json", outlines=False)
    write_images(scene, work / "images")
    split = PreparedSplit("val", work / "val.json", work / "images", VAL, VAL_BOXES, "")
    table = SplitTable.of_split(split)
    detections = make_detections(scene)
    with figures.timed(f"evaluated, {len(detections):,} detections of {CLASSES:,} classes"):
        evaluate_detections(table, detections)
    figures.peak("evaluation")
    for number, name in enumerate(names):
        write_run(work / "runs" / name, work / "val.json", make_detections(scene, 100, 0.6, number))
    rows = tuple(Row(name, "made up", "none", "none", (RunFolder(work / "runs" / name),)) for name in names)
    study = ComparisonStudy("classes", "Classes", "", "sim", names[0], rows, split)
    with figures.timed("2 runs compared, tables, figures and report"):
        compared = compare(study)
        write_tables(compared, work / "out")
        write_report(compared, draw_figures(compared, work / "out/figures"), work / "out/report.html")
    figures.peak("comparison")
    seconds, megabytes = in_process(_step, "tood", FEW, CLASSES)
    figures.say(f"training step of TOOD, {CLASSES:,} classes: {seconds:.1f} s, {megabytes:,.0f} MB")


def pixels(figures: Figures) -> None:
    """A picture of 12,000 x 9,000 pixels from its file to a batch."""
    import numpy as np

    from tood.config.backbone import PixelsConfig
    from tood.config.images import ImagesConfig
    from tood.data.dataset import DetectionDataset
    from tood.data.loader import test_batches
    from tood.data.network_input import NetworkInput
    from tood.data.split_table import SplitTable
    from tood.data.training_targets import TrainingTargets
    from tood.io.write import write_json

    path = figures.work / "large.jpg"
    coarse = np.random.default_rng(0).integers(0, 256, (PIXELS[1] // 40, PIXELS[0] // 40, 3), np.uint8)
    in_process(_enlarge, Image.fromarray(coarse), path)
    figures = Figures(figures.work, figures.scale)  # torch is imported now
    images = [{"id": 1, "file_name": path.name, "width": PIXELS[0], "height": PIXELS[1]}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    write_json(figures.work / "large.json", content)
    targets = TrainingTargets.of(SplitTable.of_json(figures.work / "large.json"))
    given = NetworkInput(ImagesConfig(), PixelsConfig())
    dataset = DetectionDataset(targets, figures.work, given, train=False, seed=0)
    with figures.timed(f"{PIXELS[0]:,} x {PIXELS[1]:,} pixels decoded and resized"):
        (batch,) = test_batches(dataset, batch=1, rank=0, world=1)
    figures.peak(f"to a batch of {tuple(batch.images.shape)}")


def _enlarge(picture: Image.Image, path: Path) -> None:
    picture.resize(PIXELS).save(path, quality=85)


PARTS: dict[str, tuple[Part, ...]] = {"objects": (objects,), "classes": (classes,), "pixels": (pixels,)}

if __name__ == "__main__":
    run_parts(PARTS, __doc__)
