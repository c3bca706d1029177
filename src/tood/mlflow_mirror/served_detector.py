"""The model that MLflow serves, as code: pictures in, what ``tood predict`` finds in them out.

A copy of this file lies in every logged model, beside its ``model.pt``, and is run when that is loaded; so it uses
nothing but the package's public names.
"""

import base64
import binascii
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

try:
    from tood import LoadedDetector, UserError, load
except ImportError as error:
    raise ImportError(
        "this model needs the package 'tood' of the project that trained it (pip install FOLDER), and was loaded in an "
        "environment without it; with 'mlflow models', give --env-manager local."
    ) from error


class ServedDetector(PythonModel):  # type: ignore[misc]
    """One row for each picture.

    The column ``image`` holds the bytes of an image file (JPEG, PNG, ...) in base64. Out come ``boxes`` (lists of x1,
    y1, x2, y2 in px of the picture), ``labels`` (names of classes) and ``scores``, best first. The parameter
    ``threshold`` is the lowest score that is given. With ``model_config={"device": "cuda"}`` it computes on a GPU.
    """

    def load_context(self, context: Any) -> None:
        device = (context.model_config or {}).get("device", "cpu")
        self.detector: LoadedDetector = load(context.artifacts["model"], threshold=0.0).to(device)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Raises MlflowException, which a server answers with status 400, naming the row that holds no picture."""
        threshold = float((params or {}).get("threshold", 0.0))
        rows = [self._found(number, text, threshold) for number, text in enumerate(model_input["image"])]
        return pd.DataFrame(rows, columns=["boxes", "labels", "scores"])

    def _found(self, row: int, text: str, threshold: float) -> dict[str, Any]:
        try:
            content = base64.b64decode("".join(text.rpartition("base64,")[2].split()), validate=True)
        except (ValueError, binascii.Error) as error:
            raise _refusal(row, "is not base64 of an image file's bytes") from error
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder, "picture")
            picture.write_bytes(content)
            try:
                found = self.detector(picture)
            except UserError as error:
                raise _refusal(row, str(error).replace(f"{picture}: ", "").replace(str(picture), "it")) from error
        kept = found["scores"] >= threshold
        return {
            "boxes": found["boxes"][kept].tolist(),
            "labels": [self.detector.classes[label] for label in found["labels"][kept].tolist()],
            "scores": found["scores"][kept].tolist(),
        }


def _refusal(row: int, problem: str) -> MlflowException:
    refusal: MlflowException = MlflowException.invalid_parameter_value(f"row {row} of column 'image': {problem}")
    return refusal


set_model(ServedDetector())
