"""Set-up of a training: data set, detector with starting weights, criterion and seed of a run."""

from dataclasses import dataclass
from pathlib import Path

import torch

from tood.config.datasets import tile_of
from tood.config.study import RunConfig
from tood.data.dataset import DetectionDataset
from tood.data.network_input import NetworkInput
from tood.data.prepared import PreparedDataset
from tood.data.schedule_fit import ScheduleFit, fit_schedule_to
from tood.data.split_table import SplitTable
from tood.data.tiled_split import training_tiles
from tood.data.training_targets import TrainingTargets
from tood.detection.criteria.base import Criterion
from tood.detection.detector import Detector, build_criterion, build_detector
from tood.weights.starting_weights import load_starting_weights


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """A detector with its starting weights, on the CPU, and what it is trained with."""

    config: RunConfig
    """With its schedule fitted to the data."""
    fit: ScheduleFit
    detector: Detector
    criterion: Criterion
    dataset: DetectionDataset
    """The train split, augmented."""
    weights: list[str]
    """Lines for the log: what became of the starting weights."""


def prepare_training(config: RunConfig, prepared: PreparedDataset, pretrained: Path | None) -> TrainingSetup:
    """Set up the training of a run on its data set; seeds torch's global generator with the run's seed.

    ``pretrained`` is the folder of backbones pretrained on generated crops; None leaves the detector randomly
    initialised, for weights that the caller loads. Raises UserError when the starting weights cannot be had or do not
    fit, or the train split cannot be read.
    """
    torch.manual_seed(config.seed)
    detector = build_detector(config.method, config.backbone, len(prepared.classes))
    weights: list[str] = []
    if pretrained is not None:
        weights = load_starting_weights(detector, config.backbone, pretrained, prepared.classes)
    split = prepared.split("train")
    table = training_tiles(SplitTable.of_split(split, prepared.classes), tile_of(config.dataset))
    schedule = config.schedule
    targets = TrainingTargets.of(table, drop_empty=schedule.drop_empty)
    fit = fit_schedule_to(schedule, table)
    config = config.model_copy(update={"fitted": fit.fitted})
    given = NetworkInput(config.images, config.backbone.pixels)
    dataset = DetectionDataset(targets, split.images, given, train=True, seed=config.seed, repeat=schedule.repeat)
    return TrainingSetup(config, fit, detector, build_criterion(config.method), dataset, weights)
