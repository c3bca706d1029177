"""Each finished run has its model and its data in MLflow: one copy, sent once, and answering as ``tood predict``."""

import json
import os
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from logged_model import BEST, COMMIT, give_model, record, write_picture
from mlflow.exceptions import MlflowException
from mlflow_store import client, models, only, pyfunc, row

import tood
from tood.io.errors import UserError
from tood.mlflow_mirror.tracking import sync_study
from tood.verbs.predict import Request, predict
from tood.verbs.sync import sync

RESULTS = Path("results")


def files(model: Any) -> Path:
    return Path(model.artifact_location)


def test_a_model_is_code_weights_and_thresholds_and_takes_no_room(mirrored: Path) -> None:
    (model,) = models("cells")
    found = {path.relative_to(files(model)).as_posix() for path in files(model).rglob("*") if path.is_file()}
    assert found == {
        *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "served_detector.py"),
        *("input_example.json", "serving_input_example.json", "artifacts/model.pt", "artifacts/thresholds.json"),
    }
    assert os.path.samefile(files(model) / "artifacts/model.pt", mirrored / "model.pt")
    assert (model.name, str(model.status)) == ("model", "READY")
    assert model.source_run_id == only("cells", "tood").info.run_id
    assert [one.model_id for one in only("cells", "tood").outputs.model_outputs] == [model.model_id]
    assert str(Path.cwd()) not in (files(model) / "MLmodel").read_text()


def test_libraries_are_pinned_as_training_recorded_them(mirrored: Path) -> None:
    pinned = dict(line.split("==") for line in (files(models("cells")[0]) / "requirements.txt").read_text().split())
    assert pinned["torchvision"] == "0.29.1"
    assert pinned["torch"] == torch.__version__.partition("+")[0]
    assert pinned["mlflow"] == mlflow.__version__
    assert {"numpy", "pillow", "pydantic"} < pinned.keys()


def test_signature_and_example_say_what_goes_in_and_comes_out(mirrored: Path) -> None:
    loaded = pyfunc(mirrored)
    assert [(column.name, str(column.type)) for column in loaded.metadata.signature.inputs] == [
        ("image", "DataType.string")
    ]
    assert loaded.metadata.signature.outputs.input_names() == ["boxes", "labels", "scores"]
    assert loaded.metadata.signature.params.to_dict()[0]["default"] == BEST
    assert list(loaded.predict(loaded.input_example)) == ["boxes", "labels", "scores"]


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_its_answer_is_that_of_tood_predict(mirrored: Path, threshold: float | None) -> None:
    picture = write_picture(Path("a.png"))
    params = None if threshold is None else {"threshold": threshold}
    found = pyfunc(mirrored).predict(row(picture), params=params).iloc[0]
    predict(mirrored / "model.pt", Request([picture], Path("out"), BEST, 1), "0")
    content = json.loads(Path("out/detections.json").read_text())
    lowest = BEST if threshold is None else threshold
    kept = [one for one in content["annotations"] if one["score"] >= lowest]
    assert len(kept) > 5
    assert found["scores"] == [one["score"] for one in kept]
    assert found["labels"] == [{3: "cat", 7: "dog"}[one["category_id"]] for one in kept]
    corners = [(x, y, x + width, y + height) for x, y, width, height in (one["bbox"] for one in kept)]
    assert found["boxes"] == [pytest.approx(corner, abs=1e-4) for corner in corners]
    exact = tood.load(mirrored, threshold=lowest)(picture)
    assert found["boxes"] == exact["boxes"].tolist()


@pytest.mark.parametrize(
    ("text", "words"), [("é!", "is not base64"), ("aGFsbG8=", "damaged or not in a known format"), ("", "is empty")]
)
def test_a_row_without_a_picture_is_named(mirrored: Path, text: str, words: str) -> None:
    good = row(write_picture(Path("a.png")))["image"][0]
    with pytest.raises(MlflowException) as caught:
        pyfunc(mirrored).predict(pd.DataFrame({"image": [f"data:image/png;base64,{good}", text]}))
    assert caught.value.message.startswith("row 1 of column 'image': ")
    assert words in caught.value.message
    assert "/tmp" not in caught.value.message
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_model_that_is_there_is_left_alone(mirrored: Path) -> None:
    (before,) = models("cells")
    times = {path: path.stat().st_mtime_ns for path in files(before).rglob("*")}
    assert sync_study(RESULTS, "cells").unchanged == ("cells", "tood")
    (after,) = models("cells")
    assert after.to_dictionary() == before.to_dictionary()
    assert {path: path.stat().st_mtime_ns for path in files(after).rglob("*")} == times


def test_another_model_takes_the_place_of_the_first(mirrored: Path) -> None:
    (before,) = models("cells")
    give_model(mirrored, seed=1)
    assert sync_study(RESULTS, "cells").updated == ("tood",)
    (after,) = models("cells")
    assert after.model_id != before.model_id
    assert os.path.samefile(files(after) / "artifacts/model.pt", mirrored / "model.pt")
    assert sync_study(RESULTS, "cells").unchanged == ("cells", "tood")


def test_a_model_that_was_cut_short_is_logged_anew(mirrored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    give_model(mirrored, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sync_study(RESULTS, "cells")
    assert [str(model.status) for model in models("cells")] == ["PENDING"]
    sync_study(RESULTS, "cells")
    assert [str(model.status) for model in models("cells")] == ["READY"]
    assert sync_study(RESULTS, "cells").unchanged == ("cells", "tood")


def test_the_model_of_a_run_that_is_replaced_goes_with_it(mirrored: Path) -> None:
    lines = (mirrored / "history.csv").read_text().splitlines(keepends=True)
    (mirrored / "history.csv").write_text("".join([lines[0], *lines[3:]]))
    assert sync_study(RESULTS, "cells").replaced == ("cells", "tood")
    (model,) = models("cells")
    assert model.source_run_id == only("cells", "tood").info.run_id


def test_without_models_those_in_mlflow_stay_and_none_is_added(run: Path) -> None:
    sync("cells", None, models=False)
    assert models("cells") == []
    sync("cells", None)
    assert len(models("cells")) == 1
    give_model(run, seed=1)
    (before,) = models("cells")
    sync("cells", None, models=False)
    assert [model.model_id for model in models("cells")] == [before.model_id]


def test_a_model_whose_file_was_removed_stays(mirrored: Path) -> None:
    (mirrored / "model.pt").unlink()
    assert sync_study(RESULTS, "cells").unchanged == ("cells", "tood")
    assert len(models("cells")) == 1


def test_a_file_that_training_did_not_record_is_named(run: Path) -> None:
    record(run / "train.json", model="0" * 64)
    with pytest.raises(UserError, match=r"^results/cells/tood/model\.pt: is not the file that .*train\.json names"):
        sync_study(RESULTS, "cells")
    assert models("cells") == []


def test_data_are_inputs_and_code_is_in_tags(mirrored: Path) -> None:
    stored = only("cells", "tood")
    inputs = {one.tags[0].value: one.dataset for one in stored.inputs.dataset_inputs}
    assert {context: (one.name, one.digest) for context, one in inputs.items()} == {
        "train": ("cells", "d" * 32),
        "val": ("cells", "e" * 32),
    }
    assert mlflow.data.get_source(stored.inputs.dataset_inputs[0]).uri == "data/cells"
    tags = stored.data.tags
    assert tags["mlflow.source.git.commit"] == COMMIT
    assert tags["tood.uncommitted"] == "true"
    assert len(tags["tood.code"]) == 16


def test_other_data_are_in_the_place_of_the_first(mirrored: Path) -> None:
    record(mirrored / "metrics.json", data={"test": "f" * 64, "val": "e" * 64})
    assert sync_study(RESULTS, "cells").updated == ("tood",)
    record(mirrored / "metrics.json", data={"val": "a" * 64})
    assert sync_study(RESULTS, "cells").replaced == ("tood",)
    inputs = only("cells", "tood").inputs.dataset_inputs
    assert sorted(one.dataset.digest[0] for one in inputs) == ["a", "d"]
    assert len(client().search_runs(["1"])) == 2
