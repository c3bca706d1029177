"""``tood explain assignment``: the locations assigned to a picture's objects, before and after a training."""

import logging
from collections.abc import Sequence
from pathlib import Path

from tood.config.messages import nearest
from tood.data.dataset import DetectionDataset
from tood.data.decode import decode_image
from tood.data.network_input import NetworkInput
from tood.data.split_table import SplitTable
from tood.data.training_targets import TrainingTargets
from tood.detection.criteria.base import Criterion
from tood.detection.detector import Detector
from tood.detection.training_batch import Progress
from tood.evaluation.assignment_view import AssignmentView, view_assignment
from tood.io.errors import UserError
from tood.reporting.assignment_figure import draw_assignment
from tood.training.setup import prepare_training
from tood.verbs.folders import DATA
from tood.verbs.open_run import check_split, open_dataset, study_at
from tood.verbs.trained import open_trained

log = logging.getLogger(__name__)


def explain_assignment(folder: Path, image: str | None, split_name: str, out: Path) -> list[AssignmentView]:
    """Draw the assignment in a picture of a split, by its file name (the first if None), into the PNG ``out``.

    Before the training it is that of the starting weights in the first step, afterwards, where the run is trained, that
    of its model in the last step: a method of two phases shows both.
    """
    config = study_at(folder).run(folder.name)
    check_split(config.dataset, split_name)
    prepared = open_dataset(config.dataset)
    setup = prepare_training(config, prepared, DATA / "pretrained")
    config, last = setup.config, setup.fit.fitted.steps - 1
    split = prepared.split(split_name)
    targets = TrainingTargets.of(SplitTable.of_split(split, prepared.classes))
    names = [targets.file_names[number] for number in range(len(targets))]
    given = NetworkInput(config.images, config.backbone.pixels)
    dataset = DetectionDataset(targets, split.images, given, train=False, seed=config.seed)
    position = _position(image, names, split_name)

    def view(detector: Detector, criterion: Criterion, step: int, moment: str) -> AssignmentView:
        progress = Progress(epoch=step // setup.fit.per_epoch, step=step, total_steps=last + 1)
        return view_assignment(detector, criterion, dataset, position, config.backbone.pixels, progress, moment)

    views = [view(setup.detector, setup.criterion, 0, "before the training")]
    if (folder / "model.pt").is_file():
        model, _ = open_trained(folder, config)
        views.append(view(model.detector, setup.criterion, last, "after it"))
    else:
        log.info("%s is not trained yet: the assignment of its starting weights alone", folder)
    picture = decode_image(split.images / names[position]).permute(1, 2, 0).numpy()
    title = f"{config.row}: locations assigned in {names[position]}"
    draw_assignment(out, picture, views, prepared.classes, title)
    for one in views:
        _say(one, prepared.classes)
    log.info("written: %s", out)
    return views


def _position(image: str | None, names: Sequence[str], split_name: str) -> int:
    if not names:
        raise UserError(f"--split {split_name}: has no images.")
    if image is None:
        return 0
    if image in names:
        return names.index(image)
    ending = [name for name in names if Path(name).name == Path(image).name]
    if len(ending) == 1:
        return names.index(ending[0])
    raise UserError(f"--image {image}: split '{split_name}' has no such file{nearest(image, names)}")


def _say(view: AssignmentView, classes: Sequence[str]) -> None:
    log.info("%s: %d positive locations", view.moment, len(view.locations))
    for number, label in enumerate(view.labels.tolist()):
        own = view.locations[view.locations["object"] == number]
        levels = ", ".join(f"{count} at stride {stride}" for stride, count in own.groupby("stride").size().items())
        best = f", metric up to {own['metric'].max():.3g}" if len(own) else ""
        log.info("  object %d (%s): %s%s", number + 1, classes[label], levels or "none", best)
