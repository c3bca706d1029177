"""Plan of a study: which results are outdated and why, passed on to Snakemake by stamps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tood.config.backbone import BackboneConfig
from tood.config.datasets import DatasetConfig
from tood.config.parts import code_of
from tood.config.study import RunConfig, Study
from tood.data.made_from import DataState, data_state
from tood.data.prepared import read_entry
from tood.io.errors import UserError, listed
from tood.weights.weights_digest import starting_weights_digest
from tood.workflow.code_choice import Choice
from tood.workflow.code_digest import VERBS, code_behind, combined, is_own_file
from tood.workflow.pretrained import pretrained_standing
from tood.workflow.settings import Settings, analysis_files
from tood.workflow.stamps import changing_stamp, judged_stamp, read_kept, stamp_path
from tood.workflow.standing import Expected, Standing, measurement_standing, training_standing

_MINUTE = 60.0


@dataclass(frozen=True)
class Place:
    """The project's folders."""

    params: Path = Path("params")
    data: Path = Path("data")
    results: Path = Path("results")


@dataclass
class Plan:
    """A study compared with its existing results."""

    study: Study
    settings: Settings
    place: Place = field(default_factory=Place)
    datasets: dict[str, DataState] = field(default_factory=dict)
    backbones: dict[str, Standing] = field(default_factory=dict)
    """Of the backbones pretrained here, by name."""
    trainings: dict[str, Standing] = field(default_factory=dict)
    """By run."""

    def __post_init__(self) -> None:
        self._choice = self._code_choice()
        for dataset in (self.study.dataset, self.study.submission):
            if dataset is not None:
                self.datasets[dataset.name] = self._data(dataset)
        for run in self.study.runs.values():
            backbone = run.backbone
            if backbone.weights == "generated" and backbone.name not in self.backbones:
                self.backbones[backbone.name] = self._backbone(backbone)
        for name, run in self.study.runs.items():
            self.trainings[name] = self._apply_code_choice(self._training(run))

    def refuse_loss(self) -> None:
        """Raise UserError, to ask the user, if long finished trainings would be thrown away because of code alone."""
        if self._choice != "ask":
            return
        limit = self.settings.code.minutes * _MINUTE
        lost = {name: one for name, one in self.trainings.items() if one.by_code_alone and one.seconds > limit}
        if lost:
            raise UserError(f"study '{self.study.name}': {code_question(lost, self.settings.code.minutes)}")

    def upgrade_data(self, prepare: Callable[[str], None]) -> None:
        """Let ``prepare`` complete the records of data sets that an earlier version prepared.

        Raises UserError where the data changed since, so that this plan does not hold.
        """
        for name, state in self.datasets.items():
            if state.is_upgrade and state.entry is not None:
                prepare(name)
                if read_entry(self.place.data / name).fingerprint != state.entry.fingerprint:
                    raise UserError(f"data set '{name}': changed since it was prepared; repeat the command to go on.")

    def write_stamps(self) -> None:
        """Write the stamps of all rules."""
        code = {verb: code_behind(verb) for verb in ("prepare", "pretrain", "evaluate", "analyse", "submit", "compare")}
        for name, state in self.datasets.items():
            made_of = {"data set": name, "code": combined(code["prepare"])}
            judged_stamp(stamp_path("", "prepare", name), made_of, [state.problem] if self._is_redone(state) else [])
        for name, standing in self.backbones.items():
            made_of = {"backbone": name, "code": combined(code["pretrain"])}
            judged_stamp(stamp_path("", "pretrain", name), made_of, standing.because())
        for name, run in self.study.runs.items():
            self._write_run_stamps(name, run, code)
        changing_stamp(stamp_path(self.study.name, "compare"), self._compared(combined(code["compare"])))
        if self.settings.code.choice != "ask":
            changing_stamp(self._kept_file, {"code": self._all_code()} if self._choice == "keep" else {})

    @property
    def _kept_file(self) -> Path:
        """Remembers for which code results were to be kept, so that it is asked once."""
        return stamp_path(self.study.name, "kept")

    def _write_run_stamps(self, name: str, run: RunConfig, code: Mapping[str, Mapping[str, str]]) -> None:
        trained = self.trainings[name]
        stamp = stamp_path(self.study.name, "train", name)
        judged_stamp(stamp, {"run": run.fingerprint, "code": combined(self._code(run))}, trained.because())
        inference = run.method.inference.model_dump(mode="json")
        for verb, because in self._measured(name).items():
            wanted = {"split": self.study.split, "inference": inference, "code": combined(code[verb])}
            judged_stamp(stamp_path(self.study.name, verb, name), wanted, because)
        if self.study.submission is not None:
            wanted = {"inference": inference, "images": self.study.submission.name, "code": combined(code["submit"])}
            changing_stamp(stamp_path(self.study.name, "submit", name), wanted)

    def _measured(self, name: str) -> dict[Literal["evaluate", "analyse"], list[str]]:
        """Why the evaluation and the analysis of a run are made again, where they are."""
        run, folder = self.study.runs[name], self.place.results / self.study.name / name
        entry = self.datasets[run.dataset.name].entry
        digests = None if entry is None else entry.digests
        found: dict[Literal["evaluate", "analyse"], list[str]] = {}
        before = ["the run is trained again"] if self.trainings[name].because() else []
        verbs: tuple[Literal["evaluate", "analyse"], ...] = ("evaluate", "analyse")
        for verb in verbs if analysis_files(self.study) else verbs[:1]:
            standing = measurement_standing(folder, verb, run, self.study.split, code_behind(verb), digests)
            found[verb] = [*before, *self._apply_code_choice(standing).because()]
            before = ["the run is evaluated again"] if found[verb] else []
        return found

    def _compared(self, code: str) -> dict[str, object]:
        """Settings that the comparison shows besides the runs' numbers."""
        study = self.study
        return {
            "texts": [study.title, study.description],
            "baseline": study.baseline,
            "split": study.split,
            "analysis": list(study.analysis),
            "rows": {name: run.row for name, run in study.runs.items()},
            "published": study.published.model_dump(mode="json") if study.published else None,
            "marks": {
                name: list(one.changed_code)
                for name, one in self.trainings.items()
                if one.changed_code and one.state == "current"  # what is trained again bears no mark
            },
            "code": code,
        }

    def _code(self, run: RunConfig) -> dict[str, str]:
        return code_behind("train", code_of(run.method))

    def _all_code(self) -> str:
        """A digest of the package's code behind all that the study has."""
        parts = sorted({path for run in self.study.runs.values() for path in code_of(run.method)})
        verbs = [verb for verb in VERBS if verb != "compare"]  # tables are made again in seconds
        code = {name: one for verb in verbs for name, one in code_behind(verb, parts).items()}
        return combined({name: one for name, one in code.items() if not is_own_file(name)})

    def _code_choice(self) -> Choice:
        """What this command says of results of other code, or if it is silent, what was said for the same code."""
        said, kept = self.settings.code.choice, read_kept(self._kept_file)
        return "keep" if said == "ask" and kept and kept == {"code": self._all_code()} else said

    def _apply_code_choice(self, standing: Standing) -> Standing:
        """The standing, made current if only code changed and results are to be kept; changed modules stay listed."""
        if self._choice == "keep" and standing.by_code_alone:
            return replace(standing, state="current")
        return standing

    def _is_redone(self, state: DataState) -> bool:
        """Whether a data set that is prepared is prepared again, and not for its records alone."""
        keeps = bool(state.changed_code) and self._choice == "keep"
        return state.entry is not None and bool(state.problem) and not keeps and not state.is_upgrade

    def _data(self, dataset: DatasetConfig) -> DataState:
        return data_state(dataset, self.place.data / dataset.name, self.place.params, code_behind("prepare"))

    def _backbone(self, backbone: BackboneConfig) -> Standing:
        file = self.place.data / "pretrained" / f"{backbone.name}.pt"
        return self._apply_code_choice(pretrained_standing(file, backbone, code_behind("pretrain")))

    def _training(self, run: RunConfig) -> Standing:
        state, backbone = self.datasets[run.dataset.name], self.backbones.get(run.backbone.name)
        known = None if state.entry is None else state.entry.digests
        weights = starting_weights_digest(run.backbone, self.place.data / "pretrained")
        folder = self.place.results / self.study.name / run.run
        found = training_standing(folder, Expected(run, self._code(run), known, weights))
        if found.state == "missing":
            return found
        reasons, changed = list(found.reasons), list(found.changed_code)
        if self._is_redone(state):
            if state.changed_code:
                changed += state.changed_code
            else:
                reasons.append(state.problem)
        if backbone is not None and backbone.state == "outdated":
            reasons += backbone.reasons
            changed += backbone.changed_code
        return replace(
            found,
            state="outdated" if reasons or changed else "current",
            reasons=tuple(reasons),
            changed_code=tuple(dict.fromkeys(changed)),
        )


def code_question(lost: Mapping[str, Standing], minutes: float) -> str:
    """The sentence with which a command stops before it trains ``lost`` runs again for code alone."""
    runs = [f"{name} ({one.seconds / _MINUTE:.0f} minutes)" for name, one in lost.items()]
    modules: Sequence[str] = sorted({module for one in lost.values() for module in one.changed_code})
    noun = "run" if len(lost) == 1 else "runs"
    return (
        f"code changed since the finished training of {noun} {listed(runs)}: {listed(modules)}; repeat the command "
        "with --config code=keep to keep the results, which the table then marks, or with --config code=new to train "
        f"again (trainings of up to code_minutes={minutes:g} are trained again without asking)."
    )
