"""Standing of results: whether a run's results are up to date with study, data, weights and code, by their own records.

Times of files and Snakemake's metadata are not used: results may have been made by hand, taken from another clone, or
be older than the program. ``train.json`` and ``config.yaml`` say what a training depended on, ``metrics.json`` and
``alignment.json`` what a measurement was made from.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tood.config.method import recorded_inference
from tood.config.stored import stored_run
from tood.config.study import RunConfig, changed_fields
from tood.data.prepared import DataDigests
from tood.io.errors import UserError
from tood.io.read import read_json, read_yaml
from tood.training.results import interrupted
from tood.workflow.code_digest import changed_modules, digests_of, is_own_file

_LEGACY = Path(__file__).with_name("first_digests.json")
_MEASUREMENTS = {"evaluate": "metrics.json", "analyse": "alignment.json"}
MOST_REASONS = 5


@dataclass(frozen=True)
class Expected:
    """What a run depends on now; None for what is unknown until something else has been made."""

    config: RunConfig
    code: Mapping[str, str]
    """Digests of the modules that train it."""
    data: DataDigests | None
    weights: str | None = None
    """Digest of its starting weights; empty if it starts from no file."""


@dataclass(frozen=True)
class Standing:
    """Results compared with what they would be made from now."""

    state: Literal["missing", "current", "outdated"]
    reasons: tuple[str, ...] = ()
    """What differs, apart from code."""
    changed_code: tuple[str, ...] = ()
    """Modules that changed since, and files of the project."""
    seconds: float = 0.0
    """What the training took."""

    @property
    def by_code_alone(self) -> bool:
        """Whether nothing but the package's code differs; whoever edits a file of the project wants it used."""
        if self.state != "outdated" or self.reasons:
            return False
        return bool(self.changed_code) and not any(map(is_own_file, self.changed_code))

    def because(self) -> list[str]:
        """Reasons why results are outdated, in a few words each."""
        if self.state != "outdated":
            return []
        code = [f"code: {', '.join(self.changed_code[:MOST_REASONS])}"] if self.changed_code else []
        return [*self.reasons[:MOST_REASONS], *code]


MISSING = Standing("missing")


def training_standing(folder: Path, expected: Expected) -> Standing:
    """Standing of the finished training in ``results/<study>/<run>``."""
    try:
        kept = _mapping(read_json(folder / "train.json"))
        written = read_yaml(folder / "config.yaml")
    except UserError:
        return MISSING
    if not (folder / "model.pt").is_file() or not (folder / "history.csv").is_file():
        return MISSING
    reasons = ["its new files are not all in place"] if interrupted(folder) else []
    reasons += _changed_settings(written, expected.config)
    if expected.data is None:
        reasons.append("its data set is made again")
    elif kept.get("data") not in expected.data.training:
        reasons.append("its data set changed")
    weights = kept.get("starting_weights")
    if weights is not None and expected.weights is not None and weights != expected.weights:
        reasons.append("its starting weights changed")
    changed = changed_modules(_recorded_code(kept, expected.code), expected.code)
    seconds = kept.get("seconds")
    return Standing(
        "outdated" if reasons or changed else "current",
        tuple(reasons),
        tuple(changed),
        float(seconds) if isinstance(seconds, int | float) else 0.0,
    )


def measurement_standing(
    folder: Path,
    verb: Literal["evaluate", "analyse"],
    config: RunConfig,
    split: str,
    code: Mapping[str, str],
    data: DataDigests | None,
) -> Standing:
    """Standing of an evaluation or analysis of the finished training in ``folder``; ``data`` as in ``Expected``."""
    try:
        trained = _mapping(read_json(folder / "train.json"))
        kept = _mapping(read_json(folder / _MEASUREMENTS[verb]))
    except UserError:
        return MISSING
    inference = config.method.inference.model_dump(mode="json")
    reasons = changed_fields(recorded_inference(kept.get("inference")), inference)
    if kept.get("split") != split:
        reasons.append(f"split: {kept.get('split')} -> {split}")
    if data is not None:
        measured = kept.get("data")
        if measured is None and trained.get("data") not in data.everything:
            reasons.append("its data set changed")  # earlier versions did not record what was measured
        elif measured is not None and measured != data.of_measurement(split) and kept.get("split") == split:
            reasons.append(f"its split {split} changed")
    model = trained.get("model", kept.get("model"))  # earlier versions kept no digest of it
    if kept.get("fingerprint") != trained.get("fingerprint") or kept.get("model") != model:
        reasons.append("its model has been trained again since")
    changed = changed_modules(_recorded_code(kept, code), code)
    return Standing("outdated" if reasons or changed else "current", tuple(reasons), tuple(changed))


def changed_since(folder: Path, code: Mapping[str, str] | None = None) -> list[str]:
    """Modules that changed since the training in ``folder``; without ``code``, of those that its summary names."""
    try:
        kept = _mapping(read_json(folder / "train.json"))
    except UserError:
        return []
    if code is None:
        recorded = kept.get("code")
        code = digests_of(recorded) if isinstance(recorded, dict) else {}
    return changed_modules(_recorded_code(kept, code), code)


def _changed_settings(written: Any, config: RunConfig) -> list[str]:
    try:
        stored = stored_run(written, "config.yaml")
    except UserError:
        return ["its config.yaml cannot be read"]
    return changed_fields(stored.science(), config.science())


def _recorded_code(kept: Mapping[str, Any], code: Mapping[str, str]) -> Mapping[str, str]:
    """The code digests that a result records; for older results those of the first version with digests."""
    recorded = kept.get("code")
    if isinstance(recorded, dict):
        return {str(name): str(value) for name, value in recorded.items()}
    first = _first_digests()
    return {name: first.get(name, code[name] if is_own_file(name) else "") for name in code}


@cache
def _first_digests() -> dict[str, str]:
    """Digests of all modules of the first version whose results record them; earlier results count as made by these."""
    return dict(json.loads(_LEGACY.read_text(encoding="utf-8")))


def _mapping(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError("is no mapping")
    return content
