"""Opening a trained run: its model, checked against its study and data set.

Apart from ``open_run.py``, so that commands without a detector do not import the code of one.
"""

from pathlib import Path

from tood.config.stored import stored_run
from tood.config.study import RunConfig, changed_fields
from tood.data.prepared import PreparedDataset
from tood.io.errors import UserError
from tood.verbs.open_run import open_dataset
from tood.weights.model_file import TrainedModel, load_model


def open_trained(folder: Path, config: RunConfig) -> tuple[TrainedModel, PreparedDataset]:
    """The model of ``results/<study>/<run>`` and the data set it was trained on.

    Raises UserError, saying what differs, unless the model was trained with ``config``, the run as the study
    has it now, and for the classes that the data set has.
    """
    path = folder / "model.pt"
    model = load_model(path)
    stored = stored_run(model.config.model_dump(mode="json"), str(path))
    changes = changed_fields(stored.science(), config.science())
    if changes:
        raise UserError(
            f"{path}: was trained with another configuration ({'; '.join(changes[:3])}); "
            f"train it again with: tood train --run {folder}"
        )
    prepared = open_dataset(config.dataset)
    if prepared.classes != model.classes:
        raise UserError(
            f"{path}: was trained for the classes {', '.join(model.classes)}, "
            f"but {prepared.folder} has {', '.join(prepared.classes)}; train the run again."
        )
    return model, prepared
