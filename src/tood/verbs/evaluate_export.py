"""``tood evaluate --export``: COCO metrics of an exported file, computed by onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tood.config.datasets import DatasetConfig, TileConfig, load_dataset, tile_of
from tood.data.split_table import SplitTable
from tood.data.tiles import in_tiles
from tood.detection.postprocess import Detections
from tood.evaluation.coco_metrics import CocoResult, evaluate_detections
from tood.evaluation.detections import SplitDetections, as_coco_results, write_results
from tood.evaluation.outputs import write_evaluation
from tood.evaluation.picture_detections import detect_in_file
from tood.evaluation.samples import write_samples
from tood.evaluation.two_results import difference_of
from tood.export.session import ExportedDetector, open_export
from tood.io.console import RunLog, run_log
from tood.io.errors import UserError, listed
from tood.reporting.run_folder import RunFolder
from tood.verbs.folders import PARAMS
from tood.verbs.open_run import check_split, open_dataset


def evaluate_export(file: Path, dataset: str, split_name: str, out: Path | None, threads: int) -> CocoResult:
    """Evaluate a file of ``tood export`` on any data set that has its classes, which are matched by name.

    The results go to ``out``, by default ``<file without suffix>/<data set>-<split>``.
    """
    log = run_log(__name__, file.name)
    detector = open_export(file, threads)
    described = load_dataset(dataset, PARAMS, f"--dataset {dataset}")
    if described.format == "images":
        raise UserError(f"--dataset {dataset}: has no annotations to compare with.")
    check_split(described, split_name)
    prepared = open_dataset(described)
    split = prepared.split(split_name)
    table = SplitTable.of_split(split, prepared.classes)
    tile = detector.tile or tile_of(described)
    log.info("detecting objects in %s images of %s%s", f"{split.image_count:,}", split.name, in_tiles(tile))
    found = detect_exported(detector, table, split.images, tile, dataset)
    result = evaluate_detections(table, found.results)
    target = out or file.with_suffix("") / f"{dataset}-{split_name}"
    write_results(target / "detections.json", found.results)
    write_samples(target / "samples", table, split.images, found.results)
    write_evaluation(
        target,
        result,
        split=split.name,
        checkpoint=f"exported from {detector.metadata.made_from}",
        images_per_second=round(found.images / found.seconds, 3) if found.seconds else None,
        seconds=round(found.seconds, 3),
        precision=detector.metadata.numbers,
        tile=tile,
    )
    _say_difference(detector, described, table, split.name, found.results, log)
    shown = [f"{name} {value:.3f}" if value is not None else f"{name} –" for name, value in result.stats.items()]
    log.info("  ".join(shown))
    if out is None:
        log.info("results: %s", target)
    return result


def _say_difference(
    detector: ExportedDetector,
    dataset: DatasetConfig,
    table: SplitTable,
    split: str,
    results: list[dict[str, Any]],
    log: RunLog,
) -> None:
    """What the file finds against what the run's own evaluation found, where that was on the same images."""
    run = RunFolder(Path(detector.metadata.made_from))
    if not (run.path / "metrics.json").is_file() or not (run.path / "detections.json").is_file():
        return
    trained_on: Any = run.config().get("dataset")
    if run.metrics().split != split or not isinstance(trained_on, dict) or trained_on.get("name") != dataset.name:
        return
    found = difference_of(table, results, run.detections())
    if found is not None:
        value, low, high = (100 * one for one in (found.value, found.interval.low, found.interval.high))
        log.info("AP %+.2f points against %s (95 %% %+.2f to %+.2f)", value, run.path, low, high)


def detect_exported(
    detector: ExportedDetector, table: SplitTable, images: Path, tile: TileConfig | None, dataset: str
) -> SplitDetections:
    """Detections in the pictures of a split, in the folder ``images``, as COCO results.

    Decoding is not in the seconds, unlike resizing, which the graph does.
    UserError for classes that the detector does not have.
    """
    classes = table.classes
    lacking = [name for name in classes if name not in detector.classes]
    if lacking:
        raise UserError(
            f"--dataset {dataset}: has classes that the exported detector was not trained for: {listed(lacking)}"
        )
    results: list[dict[str, Any]] = []
    times: list[float] = []
    categories = table.category_ids.tolist()
    for place, number in enumerate(table.image_ids.tolist()):
        before = detector.clock.seconds
        found = detect_in_file(detector, images / str(table.file_names[place]), tile)
        times.append(detector.clock.seconds - before)
        results += as_coco_results([_with_labels_of(found, detector.classes, classes)], [number], categories)
    counted = times if len(times) == 1 else times[1:]  # the first image includes the start-up time
    return SplitDetections(results, len(counted), sum(counted))


def _with_labels_of(found: Detections, given: Sequence[str], wanted: Sequence[str]) -> Detections:
    """Those of the wanted classes, under the labels that these have there."""
    places = torch.tensor([wanted.index(name) if name in wanted else -1 for name in given])
    labels = places[found.labels]
    return Detections(found.boxes[labels >= 0], found.scores[labels >= 0], labels[labels >= 0])
