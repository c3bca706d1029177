"""``tood pretrain``: a trunk's starting weights from generated crops."""

from pathlib import Path

import torch

from tood.config.backbone import BackboneConfig, load_backbone
from tood.data.shapes import generate_crops
from tood.detection.backbones import build_trunk
from tood.detection.tensor_files import save_tensors
from tood.errors import UserError
from tood.training.precision import resolve_precision
from tood.training.pretrain import pretrain_trunk
from tood.verbs.locate import DATA, PARAMS, Echo


def pretrain(name: str, out: Path | None, threads: int, echo: Echo) -> None:
    """Pretrain the trunk of ``params/backbones/<name>.yaml`` and write its weights."""
    config: BackboneConfig = load_backbone(name, PARAMS)
    if config.weights != "generated":
        raise UserError(
            f"{PARAMS}/backbones/{name}.yaml: field 'weights' is '{config.weights}'; "
            "only 'generated' weights are made by pretraining."
        )
    settings = config.pretraining
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    trunk = build_trunk(config.model_copy(update={"weights": "none", "norm": None, "frozen_stages": None}))
    echo(f"trunk        drawing {settings.crops:,} crops of {settings.size} px")
    crops, labels = generate_crops(settings.crops, settings.size, settings.seed)
    precision = resolve_precision("auto", torch.device("cpu"))
    accuracy = pretrain_trunk(trunk, torch.from_numpy(crops), torch.from_numpy(labels), settings, precision, echo)
    target = out or DATA / "pretrained" / f"{name}.pt"
    save_tensors(target, trunk.state_dict())
    echo(f"trunk        {accuracy:.1%} of the last crops told apart: {target}")
