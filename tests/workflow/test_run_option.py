"""``--run`` as people write it: read as meant, or told what was meant."""

from pathlib import Path

import pytest

from tood.io.errors import UserError
from tood.verbs.model_source import model_of
from tood.verbs.open_run import run_at

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params").symlink_to(ROOT / "params")
    (tmp_path / "results/demo/tood").mkdir(parents=True)
    (tmp_path / "results/demo/tood/config.yaml").touch()
    (tmp_path / "results/demo/tood/model.pt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "written", ["results/demo/tood/", "{here}/results/demo/tood", "./results/../results/demo/tood"]
)
def test_one_folder_can_be_written_in_several_ways(project: Path, written: str) -> None:
    config = run_at(Path(written.format(here=project)))
    assert (config.study, config.run) == ("demo", "tood")


def test_a_folder_of_runs_may_be_a_link(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    disk = tmp_path_factory.mktemp("disk") / "results"
    (project / "results").rename(disk)
    (project / "results").symlink_to(disk)
    assert run_at(Path("results/demo/tood")).run == run_at(disk / "demo/tood").run == "tood"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("results/demo/tood/model.pt", "did you mean 'results/demo/tood'?"),
        ("results/demo/tood/gone.pt", "did you mean 'results/demo/tood'?"),
        ("demo/tood", "did you mean 'results/demo/tood'?"),
        ("demo/atss", "did you mean 'results/demo/atss'?"),
        ("tood", "did you mean 'results/demo/tood'?"),
        ("result/demo/tood", "did you mean 'results/demo/tood'?"),
        ("results/demo", "must be a folder results/<study>/<run>"),
        ("results/dmo/tood", "did you mean 'demo'?"),
        ("results/demo/tod", "did you mean 'tood'?"),
    ],
)
def test_what_is_no_run_leads_to_the_one_that_was_meant(project: Path, written: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        run_at(Path(written))
    assert said in str(caught.value)


def test_from_another_folder_the_project_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "results/demo")
    with pytest.raises(UserError) as caught:
        run_at(Path("tood"))
    assert f"run this in the project's folder, {project}." in str(caught.value)


def test_a_model_is_found_by_its_run_and_not_by_its_file(project: Path) -> None:
    assert model_of(Path("results/demo/tood/")) == Path("results/demo/tood/model.pt")
    with pytest.raises(UserError, match=r"--run results/demo/tood, or --weights results/demo/tood/model\.pt"):
        model_of(Path("results/demo/tood/model.pt"))
    with pytest.raises(UserError, match="did you mean 'results/demo/tood'"):
        model_of(Path("results/demo/todd"))
