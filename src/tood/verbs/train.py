"""``tood train``: train one run of a study to its end, in one process or several."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM

import torch

from tood.config.parts import code_of
from tood.config.study import RunConfig, changed_fields
from tood.data.dataset import DetectionDataset
from tood.data.index import AnnotationIndex
from tood.data.loader import steps_per_epoch
from tood.data.made_from import refuse_outdated
from tood.data.prepared import PreparedDataset
from tood.detection.cost import count_parameters, multiply_accumulates
from tood.detection.detector import build_criterion, build_detector
from tood.evaluation.coco_metrics import evaluate_detections
from tood.evaluation.detections import detect_split
from tood.io.console import RunLog, leave_out_progress, run_log
from tood.io.errors import StoppedError, UserError
from tood.io.read import read_json
from tood.io.write import write_json, write_yaml
from tood.training.checkpoint import CheckpointStore
from tood.training.job import Cost, Job
from tood.training.loop import train as run_training
from tood.training.optim import base_learning_rate
from tood.training.precision import resolve_precision
from tood.training.processes.devices import device_name, gpu_index, lease_gpus, resolve_gpus
from tood.training.processes.distributed import Group, is_writer, local_processes, process_group
from tood.training.processes.launch import Launch, launch
from tood.training.processes.machine import Machine
from tood.training.processes.remembered_failures import failures_remembered
from tood.training.processes.rendezvous import find_rendezvous
from tood.training.processes.run_lock import Hold, exclusive
from tood.training.processes.stopping import UNSAVED, StopRequest, end_in_time, in_worker, stop_requests
from tood.verbs.folders import DATA, PARAMS, RESULTS, dataset_folder
from tood.verbs.open_run import open_dataset, run_at
from tood.verbs.twins import adopt, find_twin
from tood.weights.model_file import save_model
from tood.weights.starting_weights import load_starting_weights
from tood.workflow.code_digest import code_digest


def train(folder: Path, machine: Machine, attempt: int, arguments: Sequence[str]) -> None:
    """Train the run of ``results/<study>/<run>``; ``arguments`` repeat this command in every process.

    The second ``attempt`` at what failed for good ends at once with what the first one said.
    """
    config = run_at(folder)
    if in_worker():
        _train_among_others(config, folder, machine, "cuda" if resolve_gpus(machine.gpu) else "cpu")
        return
    with failures_remembered(folder / "state", attempt, f"{list(arguments)} {machine}"):
        _train(config, folder, machine, arguments)


def _train(config: RunConfig, folder: Path, machine: Machine, arguments: Sequence[str]) -> None:
    prepared = open_dataset(config.dataset)
    refuse_outdated(config.dataset, dataset_folder(config.dataset), PARAMS)
    if _is_trained(config, folder, prepared):
        _log(config).info("is trained already (same configuration): %s", folder / "model.pt")
        return
    gpus = resolve_gpus(machine.gpu)
    processes = max(gpus, machine.processes)
    machine.refuse_impossible(config, gpus, processes)
    if machine.nodes == 1:
        with exclusive(folder / "state") as hold:
            if _taken_from_twin(config, folder, prepared, "cuda" if gpus else "cpu"):
                return
            _name_other_states(config, folder)
            if processes == 1:
                _train_alone(config, folder, machine, gpus, hold)
                return
    # Several processes: the one that writes takes the lock, so that it is held for as long as that one lives.
    with lease_gpus(gpus) as leased:
        plan = Launch(
            processes=processes,
            gpus=leased,
            nodes=machine.nodes,
            rendezvous=find_rendezvous(machine.rendezvous) if machine.rendezvous else None,
            name=f"{config.study}-{config.run}-{config.fingerprint}",
            folder=folder / "state",
        )
        launch([*arguments, "--gpu", str(gpus)], plan)


def _train_alone(config: RunConfig, folder: Path, machine: Machine, gpus: int, hold: Hold) -> None:
    def heard(request: StopRequest) -> None:
        end_in_time(request, lambda: _log(config).info(UNSAVED))
        hold.ending()
        _log(config).info("is asked to stop (%s); saving after this step", request.reason)

    with lease_gpus(gpus) as leased, stop_requests(heard) as stop:
        if gpus:
            _train_here(config, folder, machine, "cuda", stop, gpu_index(leased[0]))
        else:
            _train_here(config, folder, machine, "cpu", stop)


def _train_among_others(config: RunConfig, folder: Path, machine: Machine, device_type: str) -> None:
    with exclusive(folder / "state") if is_writer() else nullcontext() as hold:

        def heard(request: StopRequest) -> None:
            end_in_time(request, lambda: _log(config).info(UNSAVED) if hold is not None else None)
            if hold is not None:
                hold.ending()

        with stop_requests(heard) as stop:
            _train_here(config, folder, machine, device_type, stop)


def _is_trained(config: RunConfig, folder: Path, prepared: PreparedDataset) -> bool:
    summary = folder / "train.json"
    if not ((folder / "model.pt").exists() and summary.exists()):
        return False
    kept = read_json(summary)
    if not isinstance(kept, dict):
        raise UserError(f"{summary}: is not what a training writes; remove it and train the run again.")
    return bool(kept.get("fingerprint") == config.fingerprint and kept.get("data") == prepared.fingerprint)


def _taken_from_twin(config: RunConfig, folder: Path, prepared: PreparedDataset, device_type: str) -> bool:
    """Spare a training that another study has done; False where there is none such."""
    precision = resolve_precision(config.schedule.precision, torch.device(device_type))
    twin = find_twin(RESULTS, folder, config, prepared, code=_code(config), precision=precision)
    if twin is None:
        return False
    adopt(twin, folder, config)
    _log(config).info("is taken from %s: same configuration, data, seed and code", twin)
    return True


def _name_other_states(config: RunConfig, folder: Path) -> None:
    """Say what changed when an unfinished training of another configuration lies in the folder."""
    store = CheckpointStore(folder / "state", config.fingerprint)
    if store.files():
        return
    for other in store.others():
        science = folder / "state" / other / "science.json"
        with suppress(UserError):  # of a file that is for this line alone
            kept = read_json(science)
            changes = changed_fields(kept if isinstance(kept, dict) else {}, config.science())
            _log(config).info("starts anew, for the configuration changed: %s", "; ".join(changes[:5]))


def _train_here(
    config: RunConfig,
    folder: Path,
    machine: Machine,
    device_type: str,
    stop: StopRequest,
    gpu: int = 0,
) -> None:
    with process_group(device_type, gpu, machine.patience) as group:
        threads = max(1, machine.threads // local_processes())
        torch.set_num_threads(threads)
        if machine.workers is None:
            # A GPU must not wait for decoding; on the CPU a worker would only take the core that trains.
            machine = replace(machine, workers=threads if group.device.type == "cuda" else 0)
        if not group.is_main:
            leave_out_progress()
        prepared = open_dataset(config.dataset)
        precision = resolve_precision(config.schedule.precision, group.device)
        job = _job(config, folder, prepared, machine, group, precision, stop)
        if group.is_main:
            write_yaml(folder / "config.yaml", config.model_dump(mode="json"))
        _log_opening(config, job)
        cost = run_training(job)
        if group.is_main:
            _write_results(config, folder, prepared, job, cost)
            _log(config).info("trained: %s", folder / "model.pt")


def _job(
    config: RunConfig,
    folder: Path,
    prepared: PreparedDataset,
    machine: Machine,
    group: Group,
    precision: str,
    stop: StopRequest,
) -> Job:
    torch.manual_seed(config.seed)
    detector = build_detector(config.method, config.backbone, len(prepared.classes))
    for line in load_starting_weights(detector, config.backbone, DATA / "pretrained", prepared.classes):
        _log(config).info(line)
    split = prepared.split("train")
    index = AnnotationIndex.load(split, prepared.classes, drop_empty=config.schedule.drop_empty)
    dataset = DetectionDataset(index, split.images, config.schedule.images, train=True, seed=config.seed)
    val = prepared.split("val")

    def leave_if_asked() -> None:
        if stop:
            raise StoppedError(
                f"run '{config.run}' was asked to stop ({stop.reason}); repeat the command to continue from its last "
                "checkpoint.",
                stop.number or SIGTERM,
            )

    def evaluate() -> dict[str, float | None]:
        group.share_buffers(detector)
        found = detect_split(
            detector,
            val,
            prepared.classes,
            config.schedule.images,
            config.method.inference,
            device=group.device,
            rank=group.rank,
            world=group.world,
            workers=machine.workers or 0,
            before_each=leave_if_asked,
        )
        shares = group.gather(found.results)
        values = None
        if group.is_main:
            stats = evaluate_detections(val.annotations, [one for share in shares for one in share]).stats
            values = {name: stats[name] for name in ("AP", "AP50", "AP75")}
        return dict(group.broadcast(values))

    return Job(
        config=config,
        folder=folder,
        detector=detector,
        criterion=build_criterion(config.method),
        dataset=dataset,
        data_fingerprint=prepared.fingerprint,
        code=_code(config),
        precision=precision,
        workers=machine.workers or 0,
        micro_batches=machine.accumulate,
        group=group,
        evaluate=evaluate,
        stop=stop,
    )


def _code(config: RunConfig) -> str:
    return code_digest("train", code_of(config.method))


def _log(config: RunConfig) -> RunLog:
    return run_log(__name__, config.run)


def _log_opening(config: RunConfig, job: Job) -> None:
    schedule = config.schedule
    steps = steps_per_epoch(job.dataset, batch=schedule.batch)
    where = f"{job.group.world} x {device_name(job.group.device)}"
    parts = f" in {job.micro_batches} parts" if job.micro_batches and job.micro_batches > 1 else ""
    _log(config).info(
        f"{config.method.name} on {config.dataset.name}: {len(job.dataset):,} images, "
        f"{schedule.epochs} epochs x {steps} steps of {schedule.batch} images{parts}, "
        f"learning rate {base_learning_rate(schedule):g} "
        f"({schedule.lr:g} at {schedule.lr_batch} images), {job.precision}, {where}"
    )


def _write_results(config: RunConfig, folder: Path, prepared: PreparedDataset, job: Job, cost: Cost) -> None:
    schedule = config.schedule
    detector = job.detector
    total, trainable = count_parameters(detector)
    gflops, size = multiply_accumulates(detector, schedule.images.short, schedule.images.long)
    category_ids = job.dataset.index.category_ids
    save_model(folder / "model.pt", config, prepared.classes, category_ids, detector)
    write_json(
        folder / "train.json",
        {
            "fingerprint": config.fingerprint,
            "data": prepared.fingerprint,
            "code": job.code,
            "seconds": cost.seconds,
            "attempts": cost.attempts,
            "peak_memory_bytes": cost.peak_memory_bytes,
            "device": device_name(job.group.device),
            "processes": job.group.world,
            "micro_batches": cost.micro_batches,
            "precision": job.precision,
            "effective_batch": schedule.batch,
            "learning_rate": base_learning_rate(schedule),
            "epochs": schedule.epochs,
            "steps": cost.steps,
            "parameters": total,
            "parameters_trainable": trainable,
            "gflops": gflops,
            "gflops_at": list(size),
        },
    )
