"""Whether a run's data can be trained on and scored, asked before its first step; and what of them is used."""

from collections.abc import Iterable

from tood.config.study import RunConfig, Study
from tood.data.prepared import PreparedDataset, open_prepared
from tood.data.schedule_fit import fit_images
from tood.data.split_table import SplitTable
from tood.data.target_counts import TargetCount, count_targets
from tood.data.training_targets import without_empty
from tood.data.unscored import unscored
from tood.io.errors import Problems, UserError
from tood.verbs.folders import PARAMS, dataset_folder
from tood.workflow.plan import Plan


def usable_targets(config: RunConfig, prepared: PreparedDataset) -> TargetCount:
    """The images and objects that a run trains on; UserError if there is no target at all."""
    table = SplitTable.of_split(prepared.split("train"), prepared.classes)
    schedule = config.schedule
    images = fit_images(schedule.images, without_empty(table) if schedule.drop_empty else table)
    found = count_targets(table, images, drop_empty=schedule.drop_empty)
    if not found.trains:
        raise UserError(_nothing_to_train_on(config, found))
    return found


def _nothing_to_train_on(config: RunConfig, found: TargetCount) -> str:
    bounds = found.sizes[1]
    where = f"run '{config.run}' of study '{config.study}'"
    nothing = f"no object of the train split of data set '{config.dataset.name}' is left to train on"
    if found.vanishing[1]:
        return (
            f"{where}: {nothing}, for at a shorter side of {bounds.short} px and a longer one of at most "
            f"{bounds.long} px (schedule.images of '{config.schedule.name}') all {found.vanishing[1]:,} are below 1 px "
            f"in width or height (the largest has {found.largest:.2g} px); choose larger schedule.images, or cut the "
            "pictures into tiles."
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
            usable_targets(run, prepared)
    problems.raise_all()


def _one_of_each_use(runs: Iterable[RunConfig]) -> list[RunConfig]:
    """The first run of each choice among images and objects."""
    first: dict[object, RunConfig] = {}
    for run in runs:
        first.setdefault((run.schedule.images, run.schedule.drop_empty), run)
    return list(first.values())
