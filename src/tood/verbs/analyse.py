"""``tood analyse``: alignment of scores and boxes of a run, and counts of correct and erroneous detections."""

from pathlib import Path

import torch

from tood.data.split_table import SplitTable
from tood.data.tiles import in_tiles
from tood.evaluation import alignment_boxes
from tood.evaluation import alignment_measures as alignment
from tood.evaluation.alignment_boxes import count_boxes
from tood.evaluation.alignment_files import write_alignment
from tood.evaluation.alignment_split import analyse_split
from tood.evaluation.outputs import MadeOf
from tood.io.console import run_log
from tood.io.digests import file_digest
from tood.io.errors import UserError
from tood.reporting.run_folder import RunFolder
from tood.training.processes.devices import one_device
from tood.verbs.open_run import open_dataset, study_at
from tood.verbs.trained import open_trained
from tood.workflow.code_digest import code_behind
from tood.workflow.standing import measurement_standing


def analyse(folder: Path, gpu: str, threads: int) -> None:
    """Write ``alignment.json`` and ``alignment.npz`` into the folder of an evaluated run.

    Raises UserError unless the run was trained and evaluated with the settings that its study has now.
    """
    study = study_at(folder)
    config = study.run(folder.name)
    log = run_log(__name__, config.run)
    code = code_behind("analyse")
    digests = open_dataset(config.dataset).digests
    if measurement_standing(folder, "analyse", config, study.split, code, digests).state == "current":
        log.info("is analysed already (same model, settings and code): %s", folder / "alignment.json")
        return
    torch.set_num_threads(threads)
    model, prepared = open_trained(folder, config)
    run = RunFolder(folder, config)
    run.check_settings()
    measured = run.metrics()
    if measured.split != study.split:
        raise UserError(
            f"{folder / 'metrics.json'}: was measured on split '{measured.split}', the study's is '{study.split}'; "
            f"evaluate the run again with: tood evaluate --run {folder}"
        )
    split = prepared.split(study.split)
    table = SplitTable.of_split(split, prepared.classes)
    counts = count_boxes(table, run.detections(), folder / "detections.json")
    with one_device(gpu) as device:
        log.info("ranking anchors in %s images of %s%s", f"{split.image_count:,}", split.name, in_tiles(model.tile))
        found = analyse_split(
            model.detector.on(device),
            table,
            split.images,
            model.network_input,
            config.method.inference,
            tile=model.tile,
            device=device,
            workers=threads if device.type == "cuda" else 0,
        )
    write_alignment(
        folder,
        found,
        counts,
        config=config,
        split=split.name,
        checkpoint=measured.checkpoint,
        made_of=MadeOf(
            run.training().fingerprint,
            file_digest(folder / "model.pt"),
            code,
            prepared.digests.of_measurement(study.split),
        ),
        definitions=alignment.DEFINITIONS | alignment_boxes.DEFINITIONS,
    )
    means = "  ".join(
        f"{name} –" if value is None else f"{name} {value:.3f}"
        for name, value in (("PCC top-50", found.pcc_top50), ("IoU top-10", found.iou_top10))
    )
    log.info("%s  correct %d  redundant %d  error %d", means, counts.correct, counts.redundant, counts.error)
