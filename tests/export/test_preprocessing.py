"""Images enter an exported graph as evaluation makes them, to the bit."""

import numpy as np
import onnxruntime
import pytest
import torch

from tood.config.backbone import PixelsConfig
from tood.config.images import ImagesConfig
from tood.data.batch import collate
from tood.data.decode import Decoded
from tood.data.network_input import NetworkInput
from tood.evaluation.picture_detections import as_sample
from tood.export.preprocessing import preprocessing
from tood.io.errors import UserError

SIZES = [(480, 640), (97, 31), (1, 300), (333, 500), (128, 96), (37, 41), (2, 1), (700, 701), (200, 128)]
"""Height and width: shrunk, enlarged, as they are, narrower than a cell."""


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("bounds", [(96, 160), (128, 200), (640, 640)])
def test_pixels_and_geometry_are_those_of_evaluation(bounds: tuple[int, int], antialias: bool) -> None:
    short, long = bounds
    given = NetworkInput(
        ImagesConfig(short=short, long=long, antialias=antialias), PixelsConfig(mean=(127, 100, 3), std=(128, 50, 255))
    )
    session = onnxruntime.InferenceSession(preprocessing(given).SerializeToString())
    draw = np.random.default_rng(0)
    for height, width in SIZES:
        image = draw.integers(0, 256, (height, width, 3), np.uint8)
        planes = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        batch = collate([as_sample(Decoded(planes, (width, height)), 1, given)], given.pixels)
        pixels, limits, factors, padded = session.run(["pixels", "limits", "factors", "padded"], {"image": image})
        assert np.array_equal(pixels, batch.images.numpy()), (height, width)
        assert limits.tolist() == batch.sizes[0].flip(0).repeat(2).tolist()
        assert np.array_equal(factors, batch.scales[0].repeat(2).numpy())
        assert tuple(padded) == batch.images.shape[2:]


def test_opencvs_rounding_is_refused() -> None:
    with pytest.raises(UserError, match="'opencv': is not exported"):
        preprocessing(NetworkInput(ImagesConfig(resize="opencv"), PixelsConfig()))
