"""A study as written in its YAML file, and the runs that a selection of seeds and methods makes of it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tood.config.base import Config, refuse
from tood.config.blocks import block_names
from tood.config.compose import Common, RunEntry
from tood.config.messages import nearest
from tood.io.errors import UserError

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")  # no dots: DVC reads them as nesting
_SEEDED = re.compile(r"(?P<entry>.+)-(?P<seed>0|[1-9][0-9]{0,3})")
_RESERVED = {"alignment", "comparison", "figures", "logs", "report", "tracked"}
Analysis = Literal["alignment"]
Seeds = Annotated[int, Field(ge=1, le=1000)]


class StudyFile(Config):
    """A study as written in its YAML file."""

    title: str
    description: str = ""
    dataset: str | None = Field(None, description="Left out in studies for one's own data, which are named with them.")
    baseline: str = Field(description="Row that the others are compared with.")
    split: str | Annotated[list[str], Field(min_length=1)] = Field(
        "val", description="Split that the runs are evaluated and compared on; of several the first that there is."
    )
    seeds: Seeds | None = Field(
        None, description="Every run is trained with so many seeds: NAME becomes NAME-0, NAME-1, … in the row NAME."
    )
    published: str | None = Field(None, description="Published numbers to print beside the study's own.")
    analysis: list[Analysis] = Field([], description="Analyses of every run beside its evaluation.")
    submission: str | None = Field(None, description="Data set of images to write an evaluation server's files for.")
    common: Common = Common()
    runs: dict[str, RunEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_fit(self) -> "StudyFile":
        problems = []
        for name, entry in self.runs.items():
            if not _RUN_NAME.fullmatch(name):
                problems.append(
                    f"run name '{name}' must be 1 to 100 letters, digits, '_' or '-', the first a letter or digit"
                )
            elif name.lower() in _RESERVED:
                problems.append(f"run name '{name}' is reserved for what a study writes beside its runs")
            if self.seeds is not None and (entry.seed is not None or entry.row is not None):
                problems.append(f"run '{name}' cannot have a seed or row of its own where 'seeds' repeats every run")
        refuse(problems)
        return self

    def row_of(self, run: str) -> str:
        return self.runs[run].row or run

    def seed_of(self, run: str) -> int:
        """The run's own seed, or the one that all share."""
        seed = self.runs[run].seed
        return self.common.seed if seed is None else seed


@dataclass(frozen=True)
class Selection:
    """What to run of a study with ``seeds``, other than what its file says."""

    seeds: int | None = None
    methods: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.seeds is not None or bool(self.methods)

    @classmethod
    def of_run(cls, run: str) -> "Selection":
        """The selection that has the run ``<name>-<seed>``; an empty one for another name."""
        found = _SEEDED.fullmatch(run)
        return cls(int(found["seed"]) + 1, (found["entry"],)) if found else cls()


def select(study: StudyFile, selection: Selection, where: str, params: Path) -> StudyFile:
    """The study with a run for each method and seed.

    Methods are names of runs in the file or of files in ``params/methods``. The baseline is the first method where the
    file's is not among them. Raises UserError for a selection that does not fit the study.
    """
    if study.seeds is None:
        if selection:
            raise UserError(
                f"{where}: names all its runs itself, so that seeds= and methods= do not go with it; give it the field "
                "'seeds', or write its runs."
            )
        return study
    entries = dict(study.runs)
    if selection.methods:
        valid = [*study.runs, *block_names(params, "methods")]
        for name in selection.methods:
            if name not in valid or not _RUN_NAME.fullmatch(name):
                given = ",".join(selection.methods)
                raise UserError(f"methods={given}: there is no method '{name}'{nearest(name, valid)}")
        entries = {name: study.runs.get(name, RunEntry(method=name)) for name in selection.methods}
    count = selection.seeds or study.seeds
    return study.model_copy(
        update={
            "baseline": study.baseline if study.baseline in entries else next(iter(entries)),
            "runs": {
                f"{name}-{number}": entry.model_copy(update={"row": name, "seed": study.common.seed + number})
                for number in range(count)
                for name, entry in entries.items()
            },
        }
    )
