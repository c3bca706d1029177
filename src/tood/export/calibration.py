"""What the ranges of a quantised network are measured on: pictures as the network is given them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from tood.data.box_drawing import spread_evenly
from tood.data.decode import Decoded
from tood.detection.postprocess import Detections
from tood.evaluation.picture_detections import ModelFinder, detect_in_file
from tood.export.preprocessing import preprocessing
from tood.weights.model_file import DetectionModel

PICTURES = 64
"""As many are taken, spread evenly over those that there are."""


def network_inputs(model: DetectionModel, pictures: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    """(1,3,H,W) of up to ``PICTURES`` of the pictures, each whole or one of its tiles."""
    session = onnxruntime.InferenceSession(preprocessing(model.network_input).SerializeToString())
    for number, path in enumerate(spread_evenly(sorted(pictures), PICTURES)):
        seen = _Seen(model, torch.device("cpu"), None)
        detect_in_file(seen, path, model.tile)
        part = seen.pictures[number % len(seen.pictures)].pixels.permute(1, 2, 0)
        found: NDArray[np.float32] = session.run(["pixels"], {"image": np.ascontiguousarray(part.numpy())})[0]
        yield found


@dataclass(frozen=True)
class _Seen(ModelFinder):
    """Keeps what it is given and finds nothing."""

    pictures: list[Decoded] = field(default_factory=list)

    def find(self, pictures: Sequence[Decoded]) -> list[Detections]:
        self.pictures.extend(pictures)
        nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
        return [nothing] * len(pictures)
