"""``tood pretrain``: pretrain a backbone's starting weights on generated crops."""

from pathlib import Path

import torch

from tood.config.backbone import BackboneConfig, load_backbone
from tood.data.synthetic.shapes import generate_crops
from tood.detection.backbones import build_backbone
from tood.io.console import run_log
from tood.io.errors import UserError
from tood.training.precision import resolve_precision
from tood.training.pretrain import pretrain_backbone
from tood.verbs.folders import DATA, PARAMS
from tood.weights.tensor_files import save_tensors
from tood.workflow.code_digest import code_behind
from tood.workflow.pretrained import write_record


def pretrain(name: str, out: Path | None, threads: int) -> None:
    """Pretrain the backbone of ``params/backbones/<name>.yaml`` and write its weights."""
    config: BackboneConfig = load_backbone(name, PARAMS)
    if config.weights != "generated":
        raise UserError(
            f"{PARAMS}/backbones/{name}.yaml: field 'weights' is '{config.weights}'; "
            "only 'generated' weights are made by pretraining."
        )
    settings = config.pretraining
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    backbone = build_backbone(config.model_copy(update={"weights": "none", "norm": None, "frozen_stages": None}))
    log = run_log(__name__, "backbone")
    log.info("drawing %s crops of %d px", f"{settings.crops:,}", settings.size)
    crops, labels = generate_crops(settings.crops, settings.size, settings.seed)
    precision = resolve_precision("auto", torch.device("cpu"))
    accuracy = pretrain_backbone(
        backbone, torch.from_numpy(crops), torch.from_numpy(labels), settings, config.pixels, precision
    )
    target = out or DATA / "pretrained" / f"{name}.pt"
    save_tensors(target, backbone.state_dict())
    write_record(target, config, code_behind("pretrain"))
    log.info("%s of the last crops classified correctly: %s", f"{accuracy:.1%}", target)
