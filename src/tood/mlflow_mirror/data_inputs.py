"""The data that a run was trained and evaluated on, as MLflow's inputs: by the digests that its results record."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tood.reporting.run_folder import RunFolder

_DIGITS = 32  # of MLflow's 36
_CONTEXT = "mlflow.data.context"


@dataclass(frozen=True, order=True)
class DataInput:
    """A data set and what it was used as: ``train``, or the split that was evaluated."""

    name: str
    digest: str
    context: str


def data_inputs(run: RunFolder, name: str) -> tuple[DataInput, ...]:
    """Of a run that is trained and evaluated on the data set called ``name``; earlier versions recorded less."""
    trained, measured = run.training().data, run.metrics().data
    digests = {**({"train": trained} if trained else {}), **(measured or {})}
    return tuple(sorted(DataInput(name, digest[:_DIGITS], context) for context, digest in digests.items()))


def as_mlflow(inputs: Iterable[DataInput]) -> list[Any]:
    """For ``log_inputs``."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return [
        DatasetInput(
            Dataset(one.name, one.digest, "local", json.dumps({"uri": f"data/{one.name}"})),
            [InputTag(_CONTEXT, one.context)],
        )
        for one in inputs
    ]


def from_mlflow(run: Any) -> Iterator[DataInput]:
    """Those that an MLflow run has."""
    for one in run.inputs.dataset_inputs if run.inputs else ():
        for tag in one.tags:
            if tag.key == _CONTEXT:
                yield DataInput(one.dataset.name, one.dataset.digest, tag.value)
