"""``tood evaluate``: COCO metrics of a run's trained model, or of imported weights on any data set."""

from dataclasses import dataclass
from pathlib import Path

import torch

from tood.config.datasets import TileConfig, load_dataset, tile_of
from tood.config.imported import ImportedConfig
from tood.config.method import InferenceConfig
from tood.config.study import RunConfig
from tood.data.prepared import WATCHED, PreparedSplit
from tood.data.split_table import SplitTable
from tood.data.tiles import in_tiles
from tood.detection.number_format import computed_in
from tood.evaluation.coco_metrics import evaluate_detections
from tood.evaluation.detections import SplitDetections, detect_split, write_results
from tood.evaluation.error_kinds import find_errors
from tood.evaluation.outputs import MadeOf, write_evaluation
from tood.evaluation.samples import write_samples
from tood.evaluation.threshold_file import NAME as THRESHOLDS_FILE
from tood.evaluation.threshold_file import SplitErrors, write_thresholds
from tood.io.console import run_log
from tood.io.digests import file_digest
from tood.io.errors import UserError
from tood.reporting.run_folder import RunFolder
from tood.training.checkpoint import forget_states
from tood.training.processes.devices import one_device
from tood.verbs.folders import PARAMS
from tood.verbs.open_run import check_split, open_dataset, study_at
from tood.verbs.trained import open_trained
from tood.weights.class_layer import fit_classes
from tood.weights.model_file import DetectionModel, load_detection_model
from tood.workflow.code_digest import code_behind
from tood.workflow.standing import measurement_standing


@dataclass(frozen=True)
class _EvaluationJob:
    """What to evaluate and where its results go."""

    name: str
    model: DetectionModel
    config: RunConfig | ImportedConfig
    inference: InferenceConfig
    split: PreparedSplit
    classes: tuple[str, ...]
    target: Path
    tile: TileConfig | None
    watched: PreparedSplit | None = None
    """Another split, on which score thresholds are chosen."""
    made_of: MadeOf | None = None


def evaluate(folder: Path, split_name: str | None, out: Path | None, gpu: str, threads: int) -> None:
    """Write ``detections.json``, ``pr.csv``, ``thresholds.json``, ``metrics.json`` and ``samples/`` for the run.

    An evaluation that is up to date is left as it is, apart from missing sample images. A split other than the
    study's needs a folder ``out`` of its own, since the comparison reads the run's.
    """
    study = study_at(folder)
    config = study.run(folder.name)
    split_name = split_name or study.split
    check_split(config.dataset, split_name)
    if split_name != study.split and out is None:
        raise UserError(f"--split {split_name}: give --out FOLDER too; {folder} keeps the results on {study.split}.")
    code = code_behind("evaluate")
    run = RunFolder(folder, config)
    prepared = open_dataset(config.dataset)
    standing = measurement_standing(folder, "evaluate", config, split_name, code, prepared.digests)
    if out is None and standing.state == "current" and (folder / THRESHOLDS_FILE).is_file():
        if not (folder / "samples").is_dir():
            split = prepared.split(split_name)
            table = SplitTable.of_split(split, prepared.classes)
            write_samples(folder / "samples", table, split.images, run.detections())
        log = run_log(__name__, config.run)
        log.info("is evaluated already (same model, settings and code): %s", folder / "metrics.json")
    else:
        model, prepared = open_trained(folder, config)
        data = prepared.digests.of_measurement(split_name)
        made_of = MadeOf(run.training().fingerprint, file_digest(folder / "model.pt"), code, data)
        split = prepared.split(split_name)
        job = _EvaluationJob(
            config.run,
            model,
            config,
            config.method.inference,
            split,
            model.classes,
            out or folder,
            model.tile,
            prepared.splits.get(WATCHED) if split_name != WATCHED else None,
            made_of,
        )
        _evaluate(job, gpu, threads)
    if out is None:
        forget_states(folder / "state")


def evaluate_weights(weights: Path, dataset: str, split_name: str, out: Path | None, gpu: str, threads: int) -> None:
    """Evaluate any ``model.pt`` on any data set that has its classes, which are matched by name.

    The results go to ``out``, by default ``<weights without suffix>/<data set>-<split>``. Pictures are cut into the
    tiles that the weights were trained on, where they were, otherwise as the data set says.
    """
    log = run_log(__name__, weights.name)
    model = load_detection_model(weights)
    described = load_dataset(dataset, PARAMS, f"--dataset {dataset}")
    if described.format == "images":
        raise UserError(f"--dataset {dataset}: has no annotations to compare with; use tood submit instead.")
    check_split(described, split_name)
    prepared = open_dataset(described)
    split = prepared.split(split_name)
    left_out = fit_classes(model, prepared.classes, str(weights), dataset)
    if left_out:
        log.info("without %d classes that %s does not have", len(left_out), dataset)
    target = out or weights.with_suffix("") / f"{dataset}-{split_name}"
    tile = model.tile or tile_of(described)
    inference = model.method.inference
    job = _EvaluationJob(weights.name, model, model.config, inference, split, prepared.classes, target, tile)
    _evaluate(job, gpu, threads)
    if out is None:
        log.info("results: %s", target)


def _evaluate(job: _EvaluationJob, gpu: str, threads: int) -> None:
    log = run_log(__name__, job.name)
    torch.set_num_threads(threads)
    table = SplitTable.of_split(job.split, job.classes)

    def detections_of(split: PreparedSplit, table: SplitTable, device: torch.device) -> SplitDetections:
        log.info("detecting objects in %s images of %s%s", f"{split.image_count:,}", split.name, in_tiles(job.tile))
        return detect_split(
            job.model.detector.on(device),
            table,
            split.images,
            job.model.network_input,
            job.inference,
            tile=job.tile,
            device=device,
            workers=threads if device.type == "cuda" else 0,
        )

    def errors_of(split: PreparedSplit, table: SplitTable, found: SplitDetections) -> SplitErrors:
        return SplitErrors(split.name, len(table.image_ids), find_errors(table, found.results))

    watched = None
    with one_device(gpu) as device:
        found = detections_of(job.split, table, device)
        if job.watched is not None:
            other = SplitTable.of_split(job.watched, job.classes)
            watched = errors_of(job.watched, other, detections_of(job.watched, other, device))
    result = evaluate_detections(table, found.results)
    write_results(job.target / "detections.json", found.results)
    write_samples(job.target / "samples", table, job.split.images, found.results)
    fingerprint = job.config.fingerprint if isinstance(job.config, RunConfig) else None
    write_thresholds(job.target, errors_of(job.split, table, found), watched, job.classes, fingerprint)
    write_evaluation(
        job.target,
        result,
        config=job.config,
        split=job.split.name,
        checkpoint=_checkpoint(job.model.config),
        images_per_second=round(found.images / found.seconds, 3) if found.seconds else None,
        seconds=round(found.seconds, 3),
        precision=computed_in(job.inference.precision, device),
        tile=job.tile,
        made_of=job.made_of,
    )
    shown = "  ".join(
        f"{name} {value:.3f}" if value is not None else f"{name} –" for name, value in result.stats.items()
    )
    log.info(shown)


def _checkpoint(config: RunConfig | ImportedConfig) -> str:
    if isinstance(config, ImportedConfig):
        return f"imported from {config.source.file}"
    if config.schedule.epochs is not None:
        return f"last (epoch {config.schedule.epochs})"
    return "last" if config.fitted is None else f"last (step {config.fitted.steps})"
