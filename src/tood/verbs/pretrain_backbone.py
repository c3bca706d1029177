"""``tood pretrain``: pretrain a backbone's starting weights on generated crops."""

import shutil
from pathlib import Path

import torch

from tood.config.backbone import BackboneConfig, load_backbone
from tood.data.synthetic.shapes import generate_crops
from tood.detection.backbones import build_backbone
from tood.io.console import run_log
from tood.io.errors import UserError
from tood.io.write import atomic_path
from tood.training.precision import resolve_precision
from tood.training.pretrain import pretrain_backbone
from tood.verbs.folders import DATA, PARAMS
from tood.weights.tensor_files import save_tensors
from tood.workflow.code_digest import code_behind
from tood.workflow.pretrained import is_made_with, write_record


def pretrain(name: str, out: Path | None, threads: int, *, anew: bool = False) -> None:
    """Pretrain the backbone of ``params/backbones/<name>.yaml`` and write its weights.

    Those in ``params/pretrained``, which come with the project, are taken where they were made with the same settings,
    unless it is to be done ``anew``.
    """
    config: BackboneConfig = load_backbone(name, PARAMS)
    if config.weights != "generated":
        raise UserError(
            f"{PARAMS}/backbones/{name}.yaml: field 'weights' is '{config.weights}'; "
            "only 'generated' weights are made by pretraining."
        )
    target = out or DATA / "pretrained" / f"{name}.pt"
    log = run_log(__name__, "backbone")
    shipped = PARAMS / "pretrained" / f"{name}.pt"
    if not anew and is_made_with(shipped, config):
        with atomic_path(target) as path:
            shutil.copyfile(shipped, path)
        write_record(target, config, code_behind("pretrain"))
        log.info("taken from %s, which was pretrained with these settings: %s", shipped, target)
        return
    settings = config.pretraining
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    backbone = build_backbone(config.model_copy(update={"weights": "none", "norm": None, "frozen_stages": None}))
    log.info("drawing %s crops of %d px", f"{settings.crops:,}", settings.size)
    crops, labels = generate_crops(settings.crops, settings.size, settings.seed)
    precision = resolve_precision("auto", torch.device("cpu"))
    accuracy = pretrain_backbone(
        backbone, torch.from_numpy(crops), torch.from_numpy(labels), settings, config.pixels, precision
    )
    save_tensors(target, backbone.state_dict())
    write_record(target, config, code_behind("pretrain"))
    log.info("%s of the last crops classified correctly: %s", f"{accuracy:.1%}", target)
