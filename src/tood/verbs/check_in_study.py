"""What a study would make of a data set: objects too small at its sizes, images left out, classes never learned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tood.config.datasets import DatasetConfig, tile_of
from tood.config.images import ImagesConfig
from tood.config.scale import is_scale
from tood.config.study import RunConfig, Study, load_study
from tood.data.columns import Annotations
from tood.data.counted_objects import counted_annotations
from tood.data.findings import Findings, plural
from tood.data.formats.records import RawDataset
from tood.data.input_sizes import SMALLEST_SIDE, Bounds, bounds_drawn, every_bounds, plain_bounds
from tood.data.raw_table import raw_table
from tood.data.schedule_fit import fit_images
from tood.data.split_table import SplitTable
from tood.data.target_counts import count_targets, input_boxes, why_no_targets
from tood.data.tiled_split import cut_into_tiles, training_tiles
from tood.data.training_targets import Fate, fates, without_empty
from tood.data.unscored import unscored
from tood.detection.points import STRIDES
from tood.detection.reach import centre_margin, contain_location
from tood.io.errors import UserError, listed
from tood.verbs.folders import PARAMS

_SIDES = (1, 4, 8)  # px of the network's input; the finest level has a location every 8
_REMEDY = "choose larger schedule.images, or cut the pictures into (smaller) tiles with 'tile' in the data set's file"
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class StudyCheck:
    """Lines for each size of images, and findings of all of them."""

    study: str
    facts: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

    @property
    def ok(self) -> bool:
        return not self.findings.errors

    def lines(self) -> list[str]:
        """As text for a terminal."""
        errors = len(self.findings.errors)
        notes = len(self.findings.all) - errors
        lines = ["", *self.facts]
        lines += [f"error  {sentence}" for sentence in self.findings.sentences("error")]
        lines += [f"note   {sentence}" for sentence in self.findings.sentences("note")]
        right = f"{plural(errors, 'error')} to put right" if errors else "nothing to put right"
        return [*lines, f"Study {self.study}: {right}, {plural(notes, 'note')}."]


def study_on(reference: str, dataset: DatasetConfig) -> Study:
    """The study ``reference`` on ``dataset``; with the blocks of a scale if one follows the '@'.

    Raises UserError if there is no such study, or another data set follows the '@'.
    """
    name, at, other = reference.partition("@")
    study = load_study(reference if at else f"{name}@{dataset.name}", PARAMS)
    if study.dataset.name == dataset.name:
        return study
    if not is_scale(other, PARAMS):
        raise UserError(
            f"--study {reference}: is on data set '{other}', not on '{dataset.name}'; say --study {name} or another "
            "data set."
        )
    return load_study(reference, PARAMS, on=dataset)


def check_in_study(study: Study, dataset: RawDataset) -> StudyCheck:
    """Count what is lost between a data set, as read, and the targets and scores of a study's runs."""
    tables = {split.name: raw_table(split, dataset.categories) for split in dataset.splits if split.images}
    report = StudyCheck(study.name)
    if study.split != "val" and study.split in tables and (why := unscored(tables[study.split])):
        report.findings.error(f"split '{study.split}'", f"on which study '{study.name}' compares its runs, {why}")
    tile = tile_of(study.dataset)
    tables = {name: (training_tiles if name == "train" else cut_into_tiles)(one, tile) for name, one in tables.items()}
    groups: dict[object, list[RunConfig]] = {}
    for run in study.runs.values():
        groups.setdefault((run.schedule.images, run.schedule.drop_empty), []).append(run)
    for runs in groups.values():
        _check_use(study, runs, tables, report)
    return report


def _check_use(study: Study, runs: Sequence[RunConfig], tables: dict[str, SplitTable], report: StudyCheck) -> None:
    """Runs that use images and objects alike."""
    schedule = runs[0].schedule
    images = schedule.images
    if images.fit is not None and "train" in tables:
        images = fit_images(images, without_empty(tables["train"]) if schedule.drop_empty else tables["train"])
    names = list(dict.fromkeys(f"'{run.schedule.name}'" for run in runs))
    where = f"{'schedule' if len(names) == 1 else 'schedules'} {listed(names)}"
    report.facts.append(f"Study {study.name}, {_named(runs)} ({where}): {_size(images)}.")
    if "train" in tables:
        table = tables["train"]
        found = count_targets(table, images, drop_empty=schedule.drop_empty)
        report.facts.append(f"  train  {found.sentence()}")
        if any(run.run in study.keeping_background for run in runs) and found.emptiness():
            report.findings.note(
                where,
                f"its 'drop_empty' does not hold for your own data, which keep {' and '.join(found.emptiness())}; "
                f"'drop_empty: true' in {PARAMS}/datasets/{study.dataset.name}.yaml leaves them out",
            )
        used = without_empty(table) if schedule.drop_empty else table
        report.facts.append(f"  train  {_small_objects(used, bounds_drawn(images), fates(used) == Fate.TARGET)}")
        _find_untrained_classes(table, used, images, where, report)
        _find_unreached_classes(runs, used, images, where, report)
    if "val" in tables:
        counted = counted_annotations(tables["val"])
        report.facts.append(f"  val    {_small_objects(tables['val'], (plain_bounds(images),) * 2, counted)}")


def _named(runs: Sequence[RunConfig]) -> str:
    return f"{'run' if len(runs) == 1 else 'runs'} {listed([run.run for run in runs])}"


def _size(images: ImagesConfig) -> str:
    smallest, largest = bounds_drawn(images)
    drawn = f" (in training {smallest.short} to {largest.short} px)" if smallest != largest else ""
    return f"images resized to a shorter side of {images.short} px{drawn}, the longer at most {images.long} px"


def _small_objects(table: SplitTable, sizes: tuple[Bounds, Bounds], chosen: Flags) -> str:
    """How many of the ``chosen`` annotations (N,) are below 1, 4 and 8 px, at the smallest and the largest size."""
    smallest, largest = (input_boxes(table, bounds).shorter_sides[chosen] for bounds in sizes)
    counts = [(int((largest < limit).sum()), int((smallest < limit).sum())) for limit in _SIDES]
    texts = [f"{few:,}" if few == many else f"{few:,} to {many:,}" for few, many in counts]
    each = [f"{text} below {limit} px" for text, limit in zip(texts, _SIDES, strict=True)]
    objects = f"{plural(int(chosen.sum()), 'object')}{'' if table.tiles is None else ' in tiles'}"
    return f"{objects}, by their shorter side in the network's input: {', '.join(each)}"


def _find_untrained_classes(
    table: SplitTable, used: SplitTable, images: ImagesConfig, where: str, report: StudyCheck
) -> None:
    """Report classes that are annotated in a train split but have no target in what is ``used`` of it."""
    _, annotated, known = table.locate_annotations()
    totals = np.bincount(annotated[known], minlength=len(table.classes))
    _, labels, _ = used.locate_annotations()
    fate, largest = fates(used), bounds_drawn(images)[1]
    seen = (fate == Fate.TARGET) & (input_boxes(used, largest).shorter_sides >= SMALLEST_SIDE)
    targets = np.bincount(labels[seen], minlength=len(table.classes))
    for label in np.flatnonzero((totals > 0) & (targets == 0)).tolist():
        whole = f"class '{table.classes[label]}' has {plural(int(totals[label]), 'annotation')} in train, but no target"
        of_class = labels == label
        if vanishing := int((of_class & (fate == Fate.TARGET)).sum()):
            size = f"{vanishing:,} are below 1 px in width or height at a shorter side of {largest.short} px"
            report.findings.error(where, f"{whole}: {size}; {_REMEDY}")
        else:
            report.findings.error(where, f"{whole}: {', '.join(why_no_targets(fate[of_class]))}")


def _find_unreached_classes(
    runs: Sequence[RunConfig], used: SplitTable, images: ImagesConfig, where: str, report: StudyCheck
) -> None:
    """Report classes that no location of the pyramid can learn, where the method needs one inside the object."""
    targets = fates(used) == Fate.TARGET
    _, labels, _ = used.locate_annotations()
    by_margin: dict[float, list[RunConfig]] = {}
    for run in runs:
        margin = centre_margin(run.method.criterion)
        if margin is not None:
            by_margin.setdefault(margin, []).append(run)
    for margin, needing in by_margin.items():
        plain = plain_bounds(images)
        seen = targets & _seen(used, plain, mirrored=False)
        missed = int((seen & ~_reached(used, plain, margin, mirrored=False)).sum())
        if missed:
            report.facts.append(
                f"  train  {plural(missed, 'object')} without a location (every {STRIDES[0]} px) inside at a shorter "
                f"side of {images.short} px, so without a sample in {_named(needing)}"
            )
        for label in _unreached(_only(used, targets), labels[targets], images, margin):
            report.findings.error(
                where,
                f"class '{used.classes[label]}' is never learned by {_named(needing)}: at no size that is drawn does a "
                f"location of the pyramid (every {STRIDES[0]} px) lie inside one of its objects in train; {_REMEDY}",
            )


def _unreached(table: SplitTable, labels: NDArray[np.int64], images: ImagesConfig, margin: float) -> list[int]:
    """Classes with targets that never contain a location; all annotations are targets, ``labels`` (N,) theirs."""
    waiting = np.ones(len(labels), bool)
    seen_once = np.zeros(len(table.classes), bool)
    for bounds, mirrored in _drawn(images):
        if not waiting.any():
            break
        rest, of_rest = _only(table, waiting), labels[waiting]
        seen = _seen(rest, bounds, mirrored=mirrored)
        seen_once[of_rest[seen]] = True
        found = of_rest[seen & _reached(rest, bounds, margin, mirrored=mirrored)]
        waiting &= ~np.isin(labels, found)
    return [label for label in np.unique(labels[waiting]).tolist() if seen_once[label]]


def _drawn(images: ImagesConfig) -> Iterator[tuple[Bounds, bool]]:
    """Every size that training draws, the largest first, and whether the image is mirrored."""
    for bounds in every_bounds(images):
        if images.flip < 1:
            yield bounds, False
        if images.flip > 0:
            yield bounds, True


def _seen(table: SplitTable, bounds: Bounds, *, mirrored: bool) -> Flags:
    sides = input_boxes(table, bounds, mirrored=mirrored).shorter_sides
    seen: Flags = sides >= SMALLEST_SIDE
    return seen


def _reached(table: SplitTable, bounds: Bounds, margin: float, *, mirrored: bool) -> Flags:
    found = input_boxes(table, bounds, mirrored=mirrored)
    reached: Flags = contain_location(torch.from_numpy(found.boxes), torch.from_numpy(found.sizes), margin).numpy()
    return reached


def _only(table: SplitTable, kept: Flags) -> SplitTable:
    """The split with some of its annotations."""
    columns = {one.name: getattr(table.annotations, one.name)[kept] for one in fields(Annotations)}
    return replace(table, annotations=Annotations(**columns))
