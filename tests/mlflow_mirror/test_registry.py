"""``tood register`` makes a run's model one of the registry, and ``tood.load`` takes it from there."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import requests
import torch
from logged_model import BEST, give_model, write_picture
from mlflow_store import address, client, models, pyfunc, row

import tood
from tood.io.errors import TransientError, UserError
from tood.mlflow_mirror import store
from tood.mlflow_mirror.tracking import sync_study
from tood.verbs.register import register


@pytest.fixture
def registered(run: Path) -> Path:
    register(run, "cell-detector", "champion", None)
    return run


def refused(reference: str, kind: type[UserError] = UserError) -> str:
    with pytest.raises(UserError) as caught:
        tood.load(reference)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("reference", ["@champion", "/1", "/latest"])
def test_a_registered_model_is_loaded_by_alias_and_version(registered: Path, reference: str) -> None:
    picture = write_picture(Path("a.png"))
    found, own = tood.load(f"models:/cell-detector{reference}"), tood.load(registered)
    assert found.threshold == own.threshold == BEST
    assert all(torch.equal(found(picture)[key], own(picture)[key]) for key in ("boxes", "labels", "scores"))


def test_registering_mirrors_the_run_and_again_changes_nothing(registered: Path, said: list[str]) -> None:
    register(registered, "cell-detector", "champion", None)
    assert said[-1].startswith("results/cells/tood is already version 1 of 'cell-detector'")
    assert sync_study(Path("results"), "cells").unchanged == ("cells", "tood")
    (version,) = client().search_model_versions("name = 'cell-detector'")
    (model,) = models("cells")
    assert version.source == model.artifact_location
    assert version.run_id == model.source_run_id
    assert version.tags["tood.run"] == "tood"


def test_another_model_is_another_version_and_takes_the_alias(registered: Path) -> None:
    first = tood.load("models:/cell-detector@champion", threshold=0)
    give_model(registered, seed=1)
    register(registered, "cell-detector", "champion", None)
    assert client().get_model_version_by_alias("cell-detector", "champion").version == 2
    picture = write_picture(Path("a.png"))
    again, second = (tood.load(f"models:/cell-detector/{number}", threshold=0) for number in (1, 2))
    assert torch.equal(first(picture)["boxes"], again(picture)["boxes"]), "a registered model stays"
    assert not torch.equal(first(picture)["boxes"], second(picture)["boxes"])


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("models:/cell-detector@champoin", ("'cell-detector' has no alias 'champoin'", "did you mean 'champion'?")),
        ("models:/cell-detectors@champion", ("no registered model 'cell-detectors'", "did you mean 'cell-detector'?")),
        ("models:/cell-detector/2", ("'cell-detector' has no version 2", "valid are 1.")),
        ("models:/cell-detector", ("is no model of a registry", "models:/name@alias")),
        ("models:cell-detector@champion", ("is no model of a registry",)),
    ],
)
def test_what_is_not_in_the_registry_is_one_sentence(registered: Path, reference: str, words: tuple[str, ...]) -> None:
    sentence = refused(reference)
    assert sentence.startswith(f"{reference}: ")
    assert all(word in sentence for word in words), sentence


def test_a_model_of_another_kind_is_neither_loaded_nor_added_to(run: Path) -> None:
    (Path("other") / "artifacts").mkdir(parents=True)
    (Path("other") / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    client().create_registered_model("trees")
    client().create_model_version("trees", str(Path("other").absolute()))
    client().set_registered_model_alias("trees", "champion", "1")
    assert refused("models:/trees@champion") == (
        "models:/trees@champion: is no detector of tood; load it with mlflow.pyfunc, or name another."
    )
    with pytest.raises(UserError, match=r"^--name trees: MLflow has a registered model of that name.*take another"):
        register(run, "trees", "champion", None)
    assert client().get_model_version_by_alias("trees", "champion").version == 1


def test_an_empty_registered_model_is_taken(run: Path) -> None:
    client().create_registered_model("cells", description="made by hand")
    register(run, "cells", None, None)
    assert tood.load("models:/cells/1").classes == ("cat", "dog")


def test_changed_weights_are_not_loaded(registered: Path) -> None:
    weights = Path(models("cells")[0].artifact_location) / "artifacts/model.pt"
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "its model.pt is not the one that was logged" in refused("models:/cell-detector@champion")


def test_a_registry_that_is_away_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_ANSWER", 0.5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    said = refused("models:/cells@champion", TransientError)
    assert said.startswith("MLflow at http://me:***@127.0.0.1:9 cannot be read (")
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9 could not be written to"):
        register(run, "cells", "champion", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///none.db")
    assert refused("models:/cells@champion").startswith(f"{Path.cwd()}/none.db: no such MLflow database")
    assert not Path("none.db").exists()


@pytest.mark.parametrize(
    ("name", "alias", "start"),
    [
        ("a/b", "champion", "--name 'a/b': must be letters"),
        ("it's", None, "--name 'it's': "),
        ("cells", "v1", "--alias 'v1': must be letters"),
        ("cells", "latest", "--alias 'latest': "),
        ("cells", "", "--alias '': "),
    ],
)
def test_names_that_cannot_be_used_are_refused_first(run: Path, name: str, alias: str | None, start: str) -> None:
    with pytest.raises(UserError) as caught:
        register(run, name, alias, None)
    assert str(caught.value).startswith(start)
    assert client().get_experiment_by_name("cells") is None


def test_a_run_without_a_model_or_an_evaluation_is_named(run: Path) -> None:
    (run / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"^--run results/cells/tood: is not evaluated yet.*tood evaluate"):
        register(run, "cells", None, None)
    (run / "model.pt").unlink()
    with pytest.raises(UserError, match=r"^--run results/cells/tood: has no model\.pt"):
        register(run, "cells", None, None)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def mlflow_command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("mlflow")), "models", *arguments, "--env-manager", "local"]


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    modules = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "MLFLOW_TRACKING_URI": address(), "PYTHONPATH": modules, "PATH": path}


@pytest.mark.long
def test_served_on_loopback_it_answers_as_tood_predict(registered: Path, surroundings: dict[str, str]) -> None:
    picture = write_picture(Path("a.png"))
    port = free_port()
    command = mlflow_command("serve", "-m", "models:/cell-detector@champion", "-p", str(port))
    with open("serve.log", "wb") as log:
        server = subprocess.Popen(command, env=surroundings, stdout=log, stderr=log, start_new_session=True)
    try:
        answer = ask(f"http://127.0.0.1:{port}", picture, server)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    found = tood.load(registered)(picture)
    assert len(found["scores"]) > 5
    assert answer == [
        {
            "boxes": found["boxes"].tolist(),
            "labels": [("cat", "dog")[label] for label in found["labels"].tolist()],
            "scores": found["scores"].tolist(),
        }
    ]


def ask(server: str, picture: Path, process: "subprocess.Popen[bytes]") -> object:
    """The answer of a server, once it is there, to one picture."""
    for _ in range(600):
        assert process.poll() is None, Path("serve.log").read_text()
        try:
            requests.get(f"{server}/ping", timeout=5)
            break
        except requests.ConnectionError:
            time.sleep(0.2)
    answer = requests.post(f"{server}/invocations", json={"dataframe_split": row(picture).to_dict("split")}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


@pytest.mark.long
def test_mlflow_predicts_the_same(registered: Path, surroundings: dict[str, str]) -> None:
    picture = write_picture(Path("a.png"))
    Path("in.json").write_text(json.dumps({"dataframe_split": row(picture).to_dict("split")}))
    command = mlflow_command("predict", "-m", "models:/cell-detector@champion", "-i", "in.json", "-t", "json")
    subprocess.run([*command, "-o", "out.json"], env=surroundings, check=True, capture_output=True)
    expected = pyfunc(registered).predict(row(picture)).to_dict("records")
    assert json.loads(Path("out.json").read_text())["predictions"] == expected
