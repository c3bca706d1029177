"""Whether a run's data can be trained on and scored, asked before its first step; and what of them is used."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tood.config.datasets import ShapesDataset, tile_of
from tood.config.study import RunConfig, Study
from tood.data.findings import plural
from tood.data.prepared import PreparedDataset, open_prepared
from tood.data.schedule_fit import TINY, ScheduleFit, fit_schedule_to, largest_side, tile_size_for
from tood.data.split_table import SplitTable
from tood.data.target_counts import TargetCount, count_targets
from tood.data.tiled_split import training_tiles
from tood.data.training_targets import Fate, fates, without_empty
from tood.data.unscored import unscored
from tood.io.errors import Problems, UserError
from tood.verbs.folders import PARAMS, dataset_folder
from tood.workflow.plan import Plan


@dataclass(frozen=True)
class UsableData:
    """What a run trains on, and what should be known about it beforehand."""

    targets: TargetCount
    images_seen: int
    """In all steps of the training, each as often as it is seen."""
    notes: tuple[str, ...]


def usable_data(config: RunConfig, prepared: PreparedDataset) -> UsableData:
    """The images and objects that a run trains on.

    Raises UserError if there is no target at all, or the schedule comes to fewer steps than its warm-up.
    """
    whole = SplitTable.of_split(prepared.split("train"), prepared.classes)
    table = training_tiles(whole, tile_of(config.dataset))
    schedule = config.schedule
    used = without_empty(table) if schedule.drop_empty else table
    fit = fit_schedule_to(schedule, table)
    found = count_targets(table, fit.fitted.images, drop_empty=schedule.drop_empty)
    if not found.trains:
        raise UserError(_nothing_to_train_on(config, found, table))
    warmup = schedule.warmup.steps(fit.fitted.steps)
    if fit.fitted.steps < warmup:
        raise UserError(
            f"run '{config.run}' of study '{config.study}': {plural(fit.images, _kind(table))} of data set "
            f"'{config.dataset.name}' make {plural(fit.fitted.steps, 'step')} of {schedule.batch} (schedule "
            f"'{schedule.name}'), fewer than its warm-up of {warmup}, so the learning rate never arrives; train "
            "longer, shorten schedule.warmup, or take a schedule that counts steps, as study=own does."
        )
    notes = [*_notes(config, prepared, table, used, fit), *_larger_than_tiles(config, whole)]
    return UsableData(found, fit.fitted.steps * schedule.batch, tuple(notes))


def _notes(
    config: RunConfig, prepared: PreparedDataset, table: SplitTable, used: SplitTable, fit: ScheduleFit
) -> Iterator[str]:
    schedule = config.schedule
    if fit.images < schedule.batch:
        yield (
            f"note: an epoch has {plural(fit.images, _kind(table))}, so each is seen several times in every step of "
            f"{schedule.batch} (schedule.batch)"
        )
    for name, counts in _never_learned(prepared, table).items():
        yield f"note: class '{name}' has no object in train, so it is never learned, but {counts}"
    rule = schedule.images.fit
    if rule is not None and 0 < (side := largest_side(rule, used)) < TINY:
        yield (
            f"note: even in images of {rule.most} x {rule.most} px the median object has only {side:.1f} px, too few "
            f"for a detector with a location every {TINY:.0f} px; {_tiles_advised(config, used)}give a larger "
            "schedule.images.fit.most"
        )


def _kind(table: SplitTable) -> str:
    return "image" if table.tiles is None else "tile"


def _tiles_advised(config: RunConfig, used: SplitTable) -> str:
    """The remedy for small objects, with its field and a size, and "or"; empty for data that cannot be cut."""
    if isinstance(config.dataset, ShapesDataset):
        return ""
    cut = "cut the pictures into" if config.dataset.tile is None else "take smaller"
    size, side = tile_size_for(config.schedule.images, used)
    return (
        f"{cut} tiles with 'tile: {{size: {size}}}' in {PARAMS}/datasets/{config.dataset.name}.yaml, where the median "
        f"object has {side:.0f} px, or "
    )


def _larger_than_tiles(config: RunConfig, whole: SplitTable) -> Iterator[str]:
    tile = tile_of(config.dataset)
    if tile is None:
        return
    longer = whole.annotations.boxes[fates(whole) == Fate.TARGET, 2:].max(axis=1, initial=0)
    if count := int((longer > tile.size).sum()):
        yield (
            f"note: {plural(count, 'object')} of {len(longer):,} longer than a tile (tile.size: {tile.size}), which "
            "are learned and detected in parts, and these joined"
        )


def _never_learned(prepared: PreparedDataset, train: SplitTable) -> dict[str, str]:
    """Classes without a target in train that other splits have, and how many objects these have."""
    learned = _objects_of_classes(train)
    found: dict[str, str] = {}
    for split in prepared.splits:
        if split == "train":
            continue
        counts = _objects_of_classes(SplitTable.of_split(prepared.split(split), prepared.classes))
        for label in np.flatnonzero((learned == 0) & (counts > 0)).tolist():
            name, more = train.classes[label], plural(int(counts[label]), "object")
            found[name] = f"{found[name]} and {more} in {split}" if name in found else f"{more} in {split}"
    return found


def _objects_of_classes(table: SplitTable) -> NDArray[np.int64]:
    _, labels, _ = table.locate_annotations()
    counts: NDArray[np.int64] = np.bincount(labels[fates(table) == Fate.TARGET], minlength=len(table.classes))
    return counts


def _nothing_to_train_on(config: RunConfig, found: TargetCount, table: SplitTable) -> str:
    bounds = found.sizes[1]
    where = f"run '{config.run}' of study '{config.study}'"
    nothing = f"no object of the train split of data set '{config.dataset.name}' is left to train on"
    if found.vanishing[1]:
        return (
            f"{where}: {nothing}, for at a shorter side of {bounds.short} px and a longer one of at most "
            f"{bounds.long} px (schedule.images of '{config.schedule.name}') all {found.vanishing[1]:,} are below 1 px "
            f"in width or height (the largest has {found.largest:.2g} px); {_tiles_advised(config, table)}choose "
            "larger schedule.images."
        )
    left_out = f" ({', '.join(reasons)})" if (reasons := found.reasons()) else ""
    return f"{where}: {nothing}{left_out}; correct its annotations, or see: tood data check {config.dataset.name}"


def refuse_unscored(study: Study, prepared: PreparedDataset) -> None:
    """Raise UserError if no AP is defined on val, which trainings are measured on, or on the study's split."""
    problems = Problems()
    for name in dict.fromkeys(("val", study.split)):
        why = unscored(SplitTable.of_split(prepared.split(name), prepared.classes))
        if why:
            used = "which trainings are measured on" if name == "val" else f"which study '{study.name}' compares on"
            problems.add(f"{PARAMS}/datasets/{study.dataset.name}.yaml: split '{name}', {used}, {why}.")
    problems.raise_all()


def refuse_unusable(plan: Plan) -> None:
    """Raise UserError before anything is started if the data of runs to be trained are prepared, but of no use.

    Data that are still to be prepared are judged then, and by the trainings themselves.
    """
    study, state = plan.study, plan.datasets[plan.study.dataset.name]
    due = [study.runs[name] for name, standing in plan.trainings.items() if standing.state != "current"]
    if not due or state.entry is None or (state.problem and not state.is_upgrade):
        return
    prepared = open_prepared(dataset_folder(study.dataset))
    problems = Problems()
    with problems.gather():
        refuse_unscored(study, prepared)
    for run in _one_of_each_use(due):
        with problems.gather():
            usable_data(run, prepared)
    problems.raise_all()


def _one_of_each_use(runs: Iterable[RunConfig]) -> list[RunConfig]:
    """The first run of each schedule."""
    first: dict[object, RunConfig] = {}
    for run in runs:
        first.setdefault(run.schedule.model_dump_json(), run)
    return list(first.values())
