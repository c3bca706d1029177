"""``tood submit``: write detections as an archive for the COCO evaluation server."""

from dataclasses import replace
from pathlib import Path

import torch

from tood.config.datasets import DatasetConfig, load_dataset, tile_of
from tood.data.prepared import PreparedDataset, PreparedSplit
from tood.data.split_table import SplitTable
from tood.data.tiles import in_tiles
from tood.evaluation.detections import detect_split
from tood.evaluation.submission import write_submission
from tood.io.console import run_log
from tood.io.errors import UserError
from tood.training.processes.devices import one_device
from tood.verbs.folders import PARAMS
from tood.verbs.open_run import check_split, open_dataset, run_at
from tood.verbs.trained import open_trained
from tood.weights.class_layer import fit_classes
from tood.weights.model_file import DetectionModel, load_detection_model


def submit_run(folder: Path, dataset: str, split: str | None, out: Path, gpu: str, threads: int) -> None:
    """The submission of a run's last checkpoint, named after the run."""
    config = run_at(folder)
    described = _described(dataset, split)
    prepared = open_dataset(described)
    model, _ = open_trained(folder, config)
    model = replace(model, config=config)  # with the study's current inference settings
    _submit(model, folder / "model.pt", folder.name, described, prepared, split, out, gpu, threads)


def submit_weights(weights: Path, dataset: str, split: str | None, out: Path, gpu: str, threads: int) -> None:
    """The submission of any ``model.pt``, named after its file."""
    described = _described(dataset, split)
    prepared = open_dataset(described)
    _submit(load_detection_model(weights), weights, weights.stem, described, prepared, split, out, gpu, threads)


def _described(dataset: str, split: str | None) -> DatasetConfig:
    """The data set, which has the ``split`` of the command line."""
    config = load_dataset(dataset, PARAMS, f"--dataset {dataset}")
    if split is not None:
        check_split(config, split)
    return config


def _submit(
    model: DetectionModel,
    path: Path,
    name: str,
    described: DatasetConfig,
    prepared: PreparedDataset,
    split_name: str | None,
    out: Path,
    gpu: str,
    threads: int,
) -> None:
    log = run_log(__name__, name)
    split = _split(prepared, split_name)
    table = SplitTable.of_split(split, prepared.classes)
    fit_classes(model, prepared.classes, str(path), prepared.name)
    torch.set_num_threads(threads)
    tile = model.tile or tile_of(described)
    with one_device(gpu) as device:
        log.info("detecting objects in %s images of %s%s", f"{split.image_count:,}", split.name, in_tiles(tile))
        found = detect_split(
            model.detector.on(device),
            table,
            split.images,
            model.network_input,
            model.method.inference,
            tile=tile,
            device=device,
            workers=threads if device.type == "cuda" else 0,
        )
    archive = write_submission(out, split.name, name, found.results)
    log.info("%s detections; to be uploaded: %s", f"{len(found.results):,}", archive)


def _split(prepared: PreparedDataset, name: str | None) -> PreparedSplit:
    if name is None and len(prepared.splits) > 1:
        raise UserError(f"data set '{prepared.name}': has the splits {', '.join(prepared.splits)}; give --split NAME.")
    return prepared.split(name or next(iter(prepared.splits)))
