"""The logged models of an experiment, kept equal to what its runs should have.

A model's tag ``tood.content`` is the digest of what it was made from, and its state READY is set last: a model that
was cut short is removed and logged again, one that is there is neither read nor sent again.
"""

import os
import tempfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tood.io.digests import file_digest
from tood.io.errors import UserError
from tood.mlflow_mirror.artifact_location import local_folder
from tood.mlflow_mirror.pyfunc_model import ARTIFACTS, WEIGHTS, ModelEntry, write_model

CONTENT = "tood.content"
REGISTERED = "tood.registered"
"""Tag of a model that was registered: it stays, for its files are those of a version in the registry."""
NAME = "model"
_VERSIONS = "mlflow.modelVersions"


@dataclass(frozen=True)
class LoggedModels:
    """Models of an experiment, with the client of its store."""

    client: Any
    experiment: str
    present: Sequence[Any]

    @classmethod
    def of(cls, client: Any, experiment: str) -> "LoggedModels":
        found: list[Any] = []
        token = None
        while True:
            page = client.search_logged_models([experiment], page_token=token)
            found += [model for model in page if CONTENT in model.tags]
            token = page.token
            if not token:
                return cls(client, experiment, found)

    def mirror(self, entry: ModelEntry, run_id: str, tags: dict[str, str]) -> bool:
        """Give a run its model, and no other of ours; whether anything was to do.

        A model whose file is gone is not logged, but one that was logged from it stays. Raises UserError where the
        file is not the one that the training recorded.
        """
        digest, own = entry.digest(), [model for model in self.present if model.source_run_id == run_id]
        right = [model for model in own if model.tags[CONTENT] == digest and _is_ready(model)]
        if not right and not entry.file.is_file():
            return False
        gone = self._remove([model for model in own if model not in right[:1]])
        if not right:
            self._log(entry, run_id, {**tags, CONTENT: digest})
        return gone or not right

    def remove_those_of(self, runs: Collection[str]) -> None:
        """Remove the models of runs that are no more."""
        self._remove([model for model in self.present if model.source_run_id in runs])

    def of_run(self, study: str, run: str) -> Any | None:
        """The model of the run that was logged last; None where there is none."""
        wanted = {"tood.study": study, "tood.run": run}.items()
        own = [model for model in self.present if wanted <= model.tags.items() and _is_ready(model)]
        return max(own, key=lambda model: model.creation_timestamp, default=None)

    def _remove(self, models: Sequence[Any]) -> bool:
        """Whether any was: what is in the registry, or was put there in MLflow's pages, stays."""
        removed = [model for model in models if not {REGISTERED, _VERSIONS} & model.tags.keys()]
        for model in removed:
            self.client.delete_logged_model(model.model_id)
        return bool(removed)

    def _log(self, entry: ModelEntry, run_id: str, tags: dict[str, str]) -> None:
        from mlflow.entities import LoggedModelOutput

        if file_digest(entry.file) != entry.weights:
            raise UserError(
                f"{entry.file}: is not the file that {entry.folder / 'train.json'} names; restore it, or remove it and "
                f"train the run again with: tood train --run {entry.folder}"
            )
        client = self.client
        model = client.create_logged_model(
            self.experiment, name=NAME, source_run_id=run_id, tags=tags, model_type="object-detection"
        )
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder, "model")
            write_model(files, entry, model.model_id, run_id)
            client.log_model_artifacts(model.model_id, str(files))
        target = local_folder(model.artifact_location)
        if target is None or not _linked(entry.file, target / ARTIFACTS / WEIGHTS):
            client.log_model_artifact(model.model_id, str(entry.file), ARTIFACTS)
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        client.finalize_logged_model(model.model_id, "READY")


def _is_ready(model: Any) -> bool:
    return str(model.status) == "READY"


def _linked(file: Path, target: Path) -> bool:
    """Give a file a second name, which takes no room: ``model.pt`` is only ever replaced, never written into."""
    with suppress(OSError):  # another disk, or one without links
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, target)
        return True
    return False
