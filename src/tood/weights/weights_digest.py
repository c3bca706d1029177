"""Digest of a run's starting weights, computed without PyTorch, for the workflow."""

from pathlib import Path

from tood.config.backbone import BackboneConfig
from tood.io.digests import DigestCache


def starting_weights_file(backbone: BackboneConfig, pretrained: Path) -> Path | None:
    """The file that a backbone starts from; None where its configuration says all (none, or a published file).

    ``pretrained`` is the folder of backbones pretrained on generated crops.
    """
    if backbone.weights in ("none", "imagenet", "packaged") or "://" in backbone.weights:
        return None
    return pretrained / f"{backbone.name}.pt" if backbone.weights == "generated" else Path(backbone.weights)


def starting_weights_digest(backbone: BackboneConfig, pretrained: Path) -> str | None:
    """SHA-256 of that file; empty where there is none to read, None where it is not there (yet)."""
    path = starting_weights_file(backbone, pretrained)
    if path is None:
        return ""
    cache = DigestCache(pretrained.parent / ".remembered" / "weights.csv")
    try:
        return cache.digest(path)
    except OSError:
        return None
    finally:
        cache.save()
