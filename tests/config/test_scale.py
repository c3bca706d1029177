"""Scales: every study in a small form that cannot be taken for the full one."""

import shutil
from pathlib import Path

import pytest
import yaml

from tood.config.scale import is_scale, load_scale
from tood.config.study import load_study
from tood.io.errors import UserError
from tood.reporting.provenance import provenance

PARAMS = Path(__file__).parents[2] / "params"
SMALL = "A small form of the study, to see that everything works; its numbers say nothing about the full one."
PAPER = sorted(f"paper/{path.stem}" for path in (PARAMS / "studies/paper").glob("*.yaml"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}, sort_keys=False))


def refusal(params: Path, reference: str) -> str:
    with pytest.raises(UserError) as caught:
        load_study(reference, params)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", PAPER)
def test_a_study_of_the_paper_has_the_same_runs_at_scale_demo(name: str) -> None:
    full, small = load_study(name, PARAMS), load_study(f"{name}@demo", PARAMS)
    assert list(small.runs) == list(full.runs)
    assert (full.dataset.name, small.dataset.name) == ("coco2017", "shapes")
    assert {run.backbone.kind for run in small.runs.values()} == {"light"}
    assert len({run.fingerprint for run in small.runs.values()}) == len(small.runs)
    assert small.title.startswith(full.title.removesuffix(", on coco2017") + ", on shapes (at scale demo")
    assert "at scale demo: generated shapes, half the epochs, light backbone" in small.title
    assert small.description == f"{SMALL} {full.description}"
    for run in full.runs:
        one, other = full.run(run), small.run(run)
        assert 2 * other.schedule.epochs == one.schedule.epochs
        assert (other.schedule.images.jitter is None) == (one.schedule.images.jitter is None)
        assert (other.row, other.seed) == (one.row, one.seed)
        assert other.method.head == one.method.head


def test_the_atss_phase_keeps_its_share() -> None:
    small = load_study("paper/warmup@demo", PARAMS)
    lengths = {run: config.method.criterion for run, config in small.runs.items()}
    shares = {run: (one.warmup_epochs, one.warmup_share) for run, one in lengths.items()}
    assert shares == {
        "epochs_4": (None, pytest.approx(4 / 12)),
        "epochs_0": (0, None),
        "epochs_2": (None, pytest.approx(2 / 12)),
        "epochs_8": (None, pytest.approx(8 / 12)),
    }
    assert load_study("paper/table5@demo", PARAMS).run("tood_x101").method.criterion.warmup_share == pytest.approx(
        4 / 24
    )


@pytest.mark.parametrize("full", ["1x", "1x_clip35", "1x_noisy_anchor", "18e", "2x"])
def test_small_schedules_drop_the_rate_at_the_same_shares(full: str) -> None:
    small = load_scale("demo", PARAMS).schedules[full]
    one, other = (yaml.safe_load((PARAMS / f"schedules/{name}.yaml").read_text()) for name in (full, small))
    assert 2 * other["epochs"] == one["epochs"]
    assert other["milestones"] == [step // 2 for step in one["milestones"]]


@pytest.mark.parametrize("name", sorted(path.stem for path in (PARAMS / "scales").glob("*.yaml")))
def test_every_block_that_a_scale_names_is_there(name: str) -> None:
    scale = load_scale(name, PARAMS)
    for folder, names in (("backbones", scale.backbones), ("schedules", scale.schedules)):
        for block in {*names, *names.values()}:
            assert (PARAMS / folder / f"{block}.yaml").is_file(), block
    assert (PARAMS / f"datasets/{scale.dataset}.yaml").is_file()


def test_what_a_scale_has_nothing_for_is_named(params: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_study("bccd@demo", params)
    backbones, schedules = caught.value.sentences
    assert "params/scales/demo.yaml: field 'backbones' names nothing instead of 'light'" in backbones
    assert "params/scales/demo.yaml: field 'schedules' names nothing instead of 'bccd'" in schedules
    assert "params/studies/bccd.yaml" in backbones
    edit(params / "studies/paper/table3.yaml", common={"backbone": "r50", "schedule": "bccd"})
    assert "field 'schedules' names nothing instead of 'bccd'" in refusal(params, "paper/table3@demo")


@pytest.mark.parametrize("block", ["backbone", "schedule"])
def test_overrides_of_what_is_replaced_are_refused(params: Path, block: str) -> None:
    change = {"backbone": {"width": 128}, "schedule": {"epochs": 36, "milestones": [28, 34]}}[block]
    runs = {"tood": {"method": "tood", "overrides": {block: change}}}
    edit(params / "studies/paper/table3.yaml", runs=runs, baseline="tood")
    load_study("paper/table3", params)
    sentence = refusal(params, "paper/table3@demo")
    assert f"table3.yaml: field 'runs.tood.overrides.{block}' belongs to" in sentence
    assert f"a {block} file of its own" in sentence


def test_mistakes_in_the_scale_are_blamed_on_its_file(params: Path) -> None:
    file = params / "scales/demo.yaml"
    edit(file, dataset="shaps")
    assert f"{file}: field 'dataset': there is no" in refusal(params, "paper/table3@demo")
    edit(file, dataset="shapes", backbones={"r50": "ligth"})
    assert f"{file}: field 'backbones.r50': there is no" in refusal(params, "paper/table3@demo")
    edit(file, backbone={})
    assert f"{file}: field 'backbone' is unknown; did you mean 'backbones'?" in refusal(params, "paper/table3@demo")


def test_a_name_that_is_data_set_and_scale_is_refused(params: Path) -> None:
    shutil.copy(params / "datasets/shapes.yaml", params / "datasets/demo.yaml")
    assert "scales/demo.yaml: is a data set's name too; rename one of them." in refusal(params, "paper/table3@demo")


def test_what_follows_the_study_is_a_scale_or_a_data_set() -> None:
    assert is_scale("demo", PARAMS)
    assert not is_scale("bccd", PARAMS)
    with pytest.raises(UserError, match=r"neither .*datasets/dem\.yaml nor .*scales/dem\.yaml; did you mean 'demo'\?"):
        is_scale("dem", PARAMS)


def test_the_report_says_how_to_make_it_again() -> None:
    root = PARAMS.parent
    assert provenance("paper/table3@demo", root).command.endswith("--config study=paper/table3 scale=demo")
    assert provenance("demo@bccd", root).command.endswith("--config study=demo dataset=bccd")


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ("https://example.org/backbone.pth", "its name must end with the first 8 or more digits of its SHA-256"),
        ("imagenet", "torchvision has no weights of ResNeXt-101 32x4d"),
    ],
)
def test_weights_that_cannot_be_checked_or_had_are_refused(params: Path, weights: str, sentence: str) -> None:
    edit(params / "backbones/x101_32x4d.yaml", weights=weights)
    assert sentence in refusal(params, "paper/table5")
