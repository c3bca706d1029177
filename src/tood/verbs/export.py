"""``tood export``: a trained detector as an ONNX file that needs nothing of this project."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tood.config.datasets import DatasetConfig
from tood.data.formats.folder_files import list_images
from tood.data.split_table import SplitTable
from tood.evaluation.threshold_file import best_threshold
from tood.export.extra import TO_WRITE, require
from tood.export.metadata import NumberKind
from tood.io.errors import UserError
from tood.verbs.evaluate_export import evaluate_export
from tood.verbs.open_run import open_dataset, study_at
from tood.weights.model_file import load_detection_model

log = logging.getLogger(__name__)

_MEASURED = 1000
"""On more images than this what smaller numbers cost is measured when asked for only."""


def export_run(
    run: Path, out: Path | None, *, raw: bool, numbers: NumberKind, calibration: Path | None, threads: int
) -> None:
    """As :func:`export_weights` with the run's model; an 8-bit file is calibrated on its training pictures by default.

    What smaller numbers cost in AP is measured on the study's split, if that is not large.
    """
    if numbers == "float32":
        _export(run / "model.pt", out, raw, numbers, None)
        return
    study = study_at(run)
    dataset = study.run(run.name).dataset
    pictures = None
    if numbers == "int8":
        pictures = _training_pictures(dataset) if calibration is None else list_images(calibration)
    target = _export(run / "model.pt", out, raw, numbers, pictures)
    if raw:
        return
    images = open_dataset(dataset).split(study.split).image_count
    if images > _MEASURED:
        command = f"tood evaluate --export {target} --dataset {dataset.name} --split {study.split}"
        log.info("what it costs in AP (%s images): %s", f"{images:,}", command)
    else:
        evaluate_export(target, dataset.name, study.split, None, threads)


def export_weights(
    weights: Path, out: Path | None, *, raw: bool, numbers: NumberKind, calibration: Path | None
) -> None:
    """Write the detector of a ``model.pt`` to ``out``, by default beside it, with its best threshold if one is known.

    UserError where the extra ``export`` is not installed, for an input rule that no graph can follow, and for an 8-bit
    file without pictures to calibrate on.
    """
    if numbers == "int8" and calibration is None:
        raise UserError("--int8: needs pictures that the detector is used on; give --calibration FOLDER, or --run.")
    _export(weights, out, raw, numbers, None if calibration is None else list_images(calibration))


def _export(weights: Path, out: Path | None, raw: bool, numbers: NumberKind, calibration: list[Path] | None) -> Path:
    require(TO_WRITE, "tood export")
    kinds = [*(["raw"] if raw else []), *([] if numbers == "float32" else [numbers])]
    target = weights.with_suffix(".".join(["", *kinds, "onnx"])) if out is None else out
    if target.suffix != ".onnx":
        raise UserError(f"--out {target}: must end with .onnx.")
    if calibration is not None and not calibration:
        raise UserError(
            "--calibration: the folder holds no pictures; give one with pictures as the detector is used on."
        )
    from tood.export.exporting import exported, metadata_of, save

    model = load_detection_model(weights)
    made_from = weights.parent.as_posix() if weights.name == "model.pt" else weights.name
    threshold = best_threshold(weights.parent)
    metadata = metadata_of(model, made_from, threshold, raw=raw, numbers=numbers)
    inputs: Iterable[NDArray[np.float32]] = ()
    if calibration is not None:
        from tood.export.calibration import PICTURES, network_inputs

        log.info("calibrating on %d pictures", min(PICTURES, len(calibration)))
        inputs = network_inputs(model, calibration)
    save(exported(model, metadata, inputs), target)
    size = target.stat().st_size / 1e6
    log.info(
        "%s: %s, %d classes, threshold %g, %.1f MB", target, metadata.method, len(metadata.classes), threshold, size
    )
    return target


def _training_pictures(described: DatasetConfig) -> list[Path]:
    prepared = open_dataset(described)
    split = prepared.split("train")
    table = SplitTable.of_split(split, prepared.classes)
    return [split.images / name for name in table.file_names.tolist()]
