"""The studies of all methods: rows that differ in their method and in nothing else."""

from pathlib import Path

import pytest

from tood.config.blocks import read_block
from tood.config.method import MethodConfig
from tood.config.study import load_study

PARAMS = Path(__file__).parents[2] / "params"
ROWS = ["tood", "atss", "gfl", "paa", "free_anchor", "mal", "pisa", "noisy_anchor"]
RETINANET = {"free_anchor", "mal", "pisa", "noisy_anchor"}


@pytest.mark.parametrize(("name", "seeds", "sibling"), [("family", 3, None), ("family_bccd", 3, "bccd")])
def test_rows_differ_in_their_method_only(name: str, seeds: int, sibling: str | None) -> None:
    study = load_study(name, PARAMS)
    assert study.row_names() == ROWS
    shared = {(run.backbone.model_dump_json(), run.schedule.model_dump_json()) for run in study.runs.values()}
    assert len(shared) == 1
    for row in ROWS:
        runs = [run for run in study.runs.values() if run.row == row]
        assert [run.seed for run in runs] == list(range(seeds))
        written = MethodConfig.model_validate(read_block(PARAMS, "methods", row, MethodConfig, "test"))
        if row == "tood":
            phase = {"warmup_epochs": None, "warmup_share": 0.3}
            written = written.model_copy(update={"criterion": written.criterion.model_copy(update=phase)})
        if row in RETINANET:
            written = written.model_copy(update={"head": written.head.model_copy(update={"norm": "group"})})
        assert {run.method.model_dump_json() for run in runs} == {written.model_dump_json()}
    fingerprints = {run.fingerprint for run in study.runs.values()}
    assert len(fingerprints) == seeds * len(ROWS)
    if sibling is not None:
        other = load_study(sibling, PARAMS)
        assert fingerprints >= {run.fingerprint for run in other.runs.values()}, "these were trained before"
