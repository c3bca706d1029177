"""``tood train``: train one run of a study to its end, in one process or several."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import torch

from tood.config.backbone import with_current_names
from tood.config.parts import code_of
from tood.config.study import RunConfig, Study, changed_fields
from tood.data.fork_server import ForkServer
from tood.data.loader import Reading, server_for
from tood.data.made_from import refuse_outdated
from tood.data.prepared import PreparedDataset
from tood.detection.cost import count_parameters, multiply_accumulates
from tood.detection.detector import Detector
from tood.detection.number_format import allow_tf32
from tood.detection.trial.try_method import try_method
from tood.io.console import RunLog, leave_out_progress, run_log
from tood.io.errors import UserError, listed
from tood.io.read import read_json
from tood.io.source_commit import SourceCommit, source_commit
from tood.io.write import write_json, write_yaml
from tood.training.checkpoint import CheckpointStore
from tood.training.job import Cost, Job
from tood.training.loop import TrainingLoop
from tood.training.optim import base_learning_rate
from tood.training.precision import resolve_precision
from tood.training.processes.allocator import keep_freed_memory
from tood.training.processes.devices import device_name, lease_gpus, resolve_gpus, use_gpu, versions
from tood.training.processes.distributed import Group, is_writer, process_group
from tood.training.processes.gpus import even_shares
from tood.training.processes.launch import Launch, launch
from tood.training.processes.machine import Machine
from tood.training.processes.peers import ends_with_peers
from tood.training.processes.remembered_failures import failures_remembered
from tood.training.processes.rendezvous import find_rendezvous
from tood.training.processes.run_lock import Hold, exclusive
from tood.training.processes.stopping import UNSAVED, StopRequest, end_in_time, in_worker, stop_requests
from tood.training.results import publish, publish_interrupted, staging_folder
from tood.training.setup import prepare_training
from tood.training.workers import count_workers, threads_of_each
from tood.verbs.folders import DATA, PARAMS, RESULTS, dataset_folder
from tood.verbs.open_run import open_dataset, study_at
from tood.verbs.opening import say_how_it_is_trained, say_what_is_used
from tood.verbs.training_view import in_view, keep_load
from tood.verbs.twins import adopt, find_twin
from tood.verbs.usable_data import refuse_unscored, usable_data
from tood.verbs.val_evaluation import val_evaluation, val_images
from tood.weights.model_file import save_model
from tood.weights.weights_digest import starting_weights_digest
from tood.workflow.code_choice import CodeChoice
from tood.workflow.code_digest import code_behind
from tood.workflow.finished import expected_training, stays
from tood.workflow.standing import Expected


def train(folder: Path, machine: Machine, attempt: int, code: CodeChoice, arguments: Sequence[str]) -> None:
    """Train the run of ``results/<study>/<run>``; ``arguments`` repeat this command in every process.

    A finished training is left as it is unless what it depends on changed; for ``code`` see ``CodeChoice``. After a
    permanent failure a second ``attempt`` ends at once with the same error.
    """
    study = study_at(folder)
    config = study.run(folder.name)
    if in_worker():
        _train_among_others(config, folder, machine, "cuda" if resolve_gpus(machine.gpu) else "cpu")
        return
    with failures_remembered(folder / "state", attempt, f"{list(arguments)} {machine}"):
        _train_unless_finished(study, folder, machine, code, arguments)


def _train_unless_finished(
    study: Study, folder: Path, machine: Machine, code: CodeChoice, arguments: Sequence[str]
) -> None:
    config = study.run(folder.name)
    prepared = open_dataset(config.dataset)
    refuse_outdated(config.dataset, dataset_folder(config.dataset), PARAMS)
    expected = expected_training(config, prepared, DATA)
    publish_interrupted(folder)
    finished = stays(folder, expected, code)
    if finished is not None:
        since = f", by code that changed since ({listed(finished.changed_code)})" if finished.changed_code else ""
        _log(config).info("is trained already (same configuration)%s: %s", since, folder / "model.pt")
        return
    refuse_unscored(study, prepared)
    used = usable_data(config, prepared)
    gpus = resolve_gpus(machine.gpu)
    if machine.gpu == "auto" and gpus:
        gpus = _gpus_for(config, gpus, machine.nodes)
    processes = machine.processes_for(config, gpus, used.images_seen)
    machine.refuse_impossible(config, gpus, processes)
    for note in try_method(config.method, classes=len(prepared.classes), epochs=config.schedule.epochs or 1):
        _log(config).info(note)
    if machine.nodes == 1:
        with exclusive(folder / "state") as hold:
            if _take_from_twin(folder, expected, "cuda" if gpus else "cpu"):
                return
            _name_other_states(config, folder)
            if processes == 1:
                say_what_is_used(study, config, used)
                _train_alone(config, folder, machine, gpus, hold)
                return
    say_what_is_used(study, config, used)
    # With several processes, the one that writes files takes the lock, so that it is held as long as that one lives.
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


def _gpus_for(config: RunConfig, found: int, nodes: int) -> int:
    """As many of this machine's GPUs as the images of a step can be shared out to."""
    gpus = even_shares(config.schedule.batch // nodes, found)
    if gpus < found:
        _log(config).info(
            "takes %d of %d GPUs, to which the %d images of a step (schedule.batch) can be shared out evenly",
            gpus,
            found,
            config.schedule.batch,
        )
    return gpus


def _train_alone(config: RunConfig, folder: Path, machine: Machine, gpus: int, hold: Hold) -> None:
    def heard(request: StopRequest) -> None:
        end_in_time(request, lambda: _log(config).info(UNSAVED))
        hold.ending()
        _log(config).info("is asked to stop (%s); saving after this step", request.reason)

    with lease_gpus(gpus) as leased, stop_requests(heard) as stop:
        if gpus:
            use_gpu(leased[0])
        _train_here(config, folder, machine, "cuda" if gpus else "cpu", stop)


def _train_among_others(config: RunConfig, folder: Path, machine: Machine, device_type: str) -> None:
    with exclusive(folder / "state") if is_writer() else nullcontext() as hold:

        def heard(request: StopRequest) -> None:
            end_in_time(request, lambda: _log(config).info(UNSAVED) if hold is not None else None)
            if hold is not None:
                hold.ending()

        with stop_requests(heard) as stop, ends_with_peers():
            _train_here(config, folder, machine, device_type, stop)


def _take_from_twin(folder: Path, expected: Expected, device_type: str) -> bool:
    """Copy the result of an equal training of another study; False if there is none."""
    config = expected.config
    twin = find_twin(RESULTS, folder, expected, resolve_precision(config.schedule.precision, torch.device(device_type)))
    if twin is None:
        return False
    adopt(twin, folder, config)
    keep_load(None, folder)
    _log(config).info("is taken from %s: same configuration, data, seed and code", twin)
    return True


def _name_other_states(config: RunConfig, folder: Path) -> None:
    """Log what changed if the folder has an unfinished training of another configuration."""
    store = CheckpointStore(folder / "state", config.fingerprint)
    if store.files():
        return
    for other in store.others():
        science = folder / "state" / other / "science.json"
        with suppress(UserError):  # the file serves only this log line
            kept = read_json(science)
            if isinstance(kept, dict):
                kept["backbone"] = with_current_names(kept.get("backbone"))
            if kept == config.science():  # written by an earlier version, with other names of fields
                science.parent.rename(store.folder)
                return
            changes = changed_fields(kept if isinstance(kept, dict) else {}, config.science())
            _log(config).info("starts anew, for the configuration changed: %s", "; ".join(changes[:5]))


def _train_here(
    config: RunConfig,
    folder: Path,
    machine: Machine,
    device_type: str,
    stop: StopRequest,
) -> None:
    if device_type == "cpu":
        keep_freed_memory()
    with (
        process_group(device_type, machine.patience) as group,
        server_for(group.device, machine.workers) as server,
    ):
        torch.set_num_threads(threads_of_each(machine))
        if not group.is_main:
            leave_out_progress()
        prepared = open_dataset(config.dataset)
        commit = source_commit(patience=5.0) if group.is_main else None
        precision = resolve_precision(config.schedule.precision, group.device)
        allow_tf32(precision == "tf32")
        with _job(config, folder, prepared, machine, group, server, precision, stop) as job:
            say_how_it_is_trained(job)
            loop = TrainingLoop(job)
            with in_view(job, loop.trainer) if group.is_main else nullcontext() as load:
                cost = loop.run()
        if group.is_main:
            _write_results(job, loop.trainer.result, prepared, cost, commit)
            keep_load(load, folder)
            _log(config).info("trained: %s", folder / "model.pt")


@contextmanager
def _job(
    config: RunConfig,
    folder: Path,
    prepared: PreparedDataset,
    machine: Machine,
    group: Group,
    server: ForkServer | None,
    precision: str,
    stop: StopRequest,
) -> Iterator[Job]:
    """The job; the processes that read for its evaluations stay to the end of the block."""
    setup = prepare_training(config, prepared, DATA / "pretrained")
    for line in setup.weights:
        _log(config).info(line)
    workers = count_workers(config, setup.dataset, machine, group)
    reading = Reading(workers, group.device.type == "cuda", server)
    with val_images(setup.config, prepared, group, reading) as val:
        yield Job(
            config=setup.config,
            fit=setup.fit,
            folder=folder,
            detector=setup.detector,
            criterion=setup.criterion,
            dataset=setup.dataset,
            data=prepared.digests,
            code=code_behind("train", code_of(config.method)),
            precision=precision,
            reading=reading,
            micro_batches=machine.accumulate,
            group=group,
            evaluate=val_evaluation(setup.config, val, group, stop),
            stop=stop,
        )


def _log(config: RunConfig) -> RunLog:
    return run_log(__name__, config.run)


def _write_results(
    job: Job, detector: Detector, prepared: PreparedDataset, cost: Cost, commit: SourceCommit | None
) -> None:
    """Write model, configuration, history and summary, and put them in place together."""
    config, schedule = job.config, job.config.schedule
    total, trainable = count_parameters(job.detector)
    gflops, size = multiply_accumulates(detector, config.images.short, config.images.long)
    staged = staging_folder(job.folder / "state", config.fingerprint)
    model = save_model(staged / "model.pt", config, prepared.classes, job.dataset.targets.category_ids, detector)
    write_yaml(staged / "config.yaml", config.model_dump(mode="json"))
    shutil.copyfile(job.history_file, staged / "history.csv")
    write_json(
        staged / "train.json",
        {
            "fingerprint": config.fingerprint,
            "data": job.data.trained_on,
            "starting_weights": starting_weights_digest(config.backbone, DATA / "pretrained"),
            "code": job.code,
            "commit": None if commit is None else commit.commit,
            "commit_changed": commit is not None and bool(commit.changed),
            "model": model,
            "versions": versions(job.group.device),
            "seconds": cost.seconds,
            "attempts": cost.attempts,
            "peak_memory_bytes": cost.peak_memory_bytes,
            "device": device_name(job.group.device),
            "processes": job.group.world,
            "micro_batches": cost.micro_batches,
            "precision": job.precision,
            "memory_layouts": list(job.detector.layouts),
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
    publish(staged, job.folder)
