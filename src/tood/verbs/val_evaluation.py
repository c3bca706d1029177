"""The evaluations of a training: what is detected in the val split, and its AP."""

from signal import SIGTERM

from tood.config.datasets import tile_of
from tood.config.study import RunConfig
from tood.data.loader import Reading
from tood.data.network_input import NetworkInput
from tood.data.prepared import PreparedDataset
from tood.data.split_table import SplitTable
from tood.detection.detector import Detector
from tood.evaluation.coco_metrics import evaluate_detections
from tood.evaluation.detections import SplitImages, detect_in
from tood.io.errors import StoppedError
from tood.training.job import Evaluate
from tood.training.processes.distributed import Group
from tood.training.processes.stopping import StopRequest


def val_images(config: RunConfig, prepared: PreparedDataset, group: Group, reading: Reading) -> SplitImages:
    """This process's share of the val split; a context (see ``SplitImages``)."""
    val = prepared.split("val")
    return SplitImages(
        SplitTable.of_split(val, prepared.classes),
        val.images,
        NetworkInput(config.images, config.backbone.pixels),
        reading=reading,
        tile=tile_of(config.dataset),
        rank=group.rank,
        world=group.world,
    )


def val_evaluation(config: RunConfig, val: SplitImages, group: Group, stop: StopRequest) -> Evaluate:
    """A function that gives AP, AP50 and AP75 of a detector on the val split, computed by all processes together."""

    def leave_if_asked() -> None:
        if stop:
            raise StoppedError(
                f"run '{config.run}' was asked to stop ({stop.reason}); repeat the command to continue from its last "
                "checkpoint.",
                stop.number or SIGTERM,
            )

    def evaluate(detector: Detector) -> dict[str, float | None]:
        group.share_buffers(detector)
        found = detect_in(detector, val, config.method.inference, device=group.device, before_each=leave_if_asked)
        shares = group.gather(found.results)
        values = None
        if group.is_main:
            stats = evaluate_detections(val.table, [one for share in shares for one in share]).stats
            values = {name: stats[name] for name in ("AP", "AP50", "AP75")}
        return dict(group.broadcast(values))

    return evaluate
