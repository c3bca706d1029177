"""``tood evaluate``: COCO numbers of a run's last checkpoint."""

from pathlib import Path

import torch

from tood.config.study import RunConfig, changed_fields
from tood.data.prepared import PreparedSplit
from tood.detection.model_file import TrainedModel, load_model
from tood.errors import UserError
from tood.evaluation.coco import evaluate_detections
from tood.evaluation.detections import detect_split, write_results
from tood.evaluation.outputs import write_evaluation
from tood.evaluation.samples import write_samples
from tood.training.checkpoint import forget_states
from tood.training.devices import one_device
from tood.verbs.locate import Echo
from tood.verbs.runs import open_dataset, study_at


def evaluate(folder: Path, split_name: str | None, out: Path | None, gpu: str, threads: int, echo: Echo) -> None:
    """Write ``detections.json``, ``pr.csv``, ``metrics.json`` and ``samples/`` into the run's folder.

    A split other than the study's needs a folder of its own, since the run's holds what the comparison reads.
    """
    study = study_at(folder)
    config = study.run(folder.name)
    split_name = split_name or study.split
    if split_name != study.split and out is None:
        raise UserError(f"--split {split_name}: give --out FOLDER too; {folder} keeps the results on {study.split}.")
    torch.set_num_threads(threads)
    model = load_model(folder / "model.pt")
    changes = changed_fields(model.config.science(), config.science())
    if changes:
        raise UserError(
            f"{folder / 'model.pt'}: was trained with another configuration ({'; '.join(changes[:3])}); "
            f"train it again with: tood train --run {folder}"
        )
    prepared = open_dataset(model.config.dataset)
    if prepared.classes != model.classes:
        raise UserError(
            f"{folder / 'model.pt'}: was trained for the classes {', '.join(model.classes)}, "
            f"but {prepared.folder} has {', '.join(prepared.classes)}; train the run again."
        )
    split = prepared.split(split_name)
    target = out or folder
    with one_device(gpu, echo) as device:
        echo(f"{config.run:<12} detecting objects in {split.image_count:,} images of {split.name}")
        _evaluate_on(model, config, split, target, device, threads, echo)
    if out is None:
        forget_states(folder / "state")


def _evaluate_on(
    model: TrainedModel,
    config: RunConfig,
    split: PreparedSplit,
    target: Path,
    device: torch.device,
    threads: int,
    echo: Echo,
) -> None:
    schedule = model.config.schedule
    found = detect_split(
        model.detector.to(device),
        split,
        model.classes,
        schedule.images,
        config.method.inference,
        device=device,
        workers=threads if device.type == "cuda" else 0,
    )
    result = evaluate_detections(split.annotations, found.results)
    write_results(target / "detections.json", found.results)
    write_samples(target / "samples", split, model.classes, found.results)
    write_evaluation(
        target,
        result,
        config=config,
        split=split.name,
        checkpoint=f"last (epoch {schedule.epochs})",
        images_per_second=round(found.images / found.seconds, 3) if found.seconds else None,
        seconds=round(found.seconds, 3),
    )
    shown = "  ".join(
        f"{name} {value:.3f}" if value is not None else f"{name} –" for name, value in result.stats.items()
    )
    echo(f"{config.run:<12} {shown}")
