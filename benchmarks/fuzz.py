"""Feed the loaders what a coverage-guided fuzzer finds: no traceback, no wait, no file outside the target folder.

    pip install atheris                                          # in an environment of its own with this project
    python benchmarks/fuzz.py --seconds 240 --corpus fuzz/coco coco

The first finding ends the run with a traceback; the input is left in ``crash-*``, ``timeout-*`` or ``oom-*`` and is
tried again with ``python benchmarks/fuzz.py coco crash-…``. With ``--mutate`` the inputs are random changes of the
seeds alone, which needs nothing installed. Loaders: coco, json, voc, yolo, names, dataset, study, archive, image,
weights.
"""

import argparse
import importlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz_seeds import BITS, COCO, PROJECT, VOC, seeds

SLOWEST = 5.0  # seconds of processor time for an input
MEMORY = 4096  # MB


def main() -> None:
    arguments, rest = _arguments()
    work = Path(tempfile.mkdtemp(prefix="tood-fuzz-"))
    target = _instrumented(arguments.loader, work, guided=not arguments.mutate)
    try:
        if arguments.mutate:
            _mutate(target, seeds(arguments.loader), arguments.seconds, arguments.seed)
        else:
            _guided(target, arguments, rest)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loader", choices=sorted(LOADERS))
    parser.add_argument("inputs", nargs="*", type=Path, help="Inputs to try once, instead of new ones.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="Folder in which inputs that reach new code are kept.")
    parser.add_argument("--mutate", action="store_true", help="Without atheris: random changes of the seeds.")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_known_args()


def _instrumented(loader: str, work: Path, *, guided: bool) -> Callable[[bytes], None]:
    """The target, with the code below it watched for what it reaches."""
    if guided:
        import atheris

        with atheris.instrument_imports(include=["tood", "yaml", "json", "defusedxml"]):
            for module in REACHED.get(loader, ("tood.data.formats.reading", "tood.config.study")):
                importlib.import_module(module)

    try_it = LOADERS[loader](work)
    refused(try_it, seeds(loader)[0])  # imports what is imported on use
    outside = _outside(work)

    def target(content: bytes) -> None:
        began = time.process_time()
        refused(try_it, content)
        took = time.process_time() - began
        assert took < SLOWEST, f"took {took:.1f} s"
        assert _outside(work) == outside, "a file was written outside the target folder"

    return target


def refused(call: Callable[..., object], *arguments: object) -> None:
    """Call it; that it says one sentence to the user is as good as that it works."""
    from tood.io.errors import UserError

    try:
        call(*arguments)
    except UserError as error:
        if "\n" in str(error) or not str(error).endswith((".", "?")):
            raise AssertionError(f"not one sentence: {error}") from error


def _outside(work: Path) -> set[Path]:
    """What lies beside the target folder, where the paths of hostile archives and lists lead first."""
    return {*work.iterdir(), *work.parent.glob("evil*"), *Path.cwd().glob("evil*")}


def _guided(target: Callable[[bytes], None], arguments: argparse.Namespace, rest: list[str]) -> None:
    import atheris

    corpus = arguments.corpus or Path(tempfile.mkdtemp(prefix="tood-corpus-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(arguments.loader)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={arguments.seconds}",
        f"-timeout={4 * SLOWEST:.0f}",
        f"-rss_limit_mb={MEMORY}",
        f"-seed={arguments.seed + 1}",
        "-max_len=20000",
        "-print_final_stats=1",
        *rest,
    ]
    places = [str(path) for path in arguments.inputs] or [str(corpus)]
    atheris.Setup([sys.argv[0], *options, *places], target)
    atheris.Fuzz()


def _mutate(target: Callable[[bytes], None], seeds: list[bytes], seconds: int, seed: int) -> None:
    chance = random.Random(seed)
    ends = time.monotonic() + seconds
    tried = 0
    while time.monotonic() < ends:
        content = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 8)):
            place, size = chance.randint(0, len(content)), chance.choice([0, 1, 1, 2, 8, 64])
            piece = chance.choice(
                [bytes(size), chance.randbytes(size), bytes(content[place : place + size]) * 9, *BITS]
            )
            content[place : place + size] = piece
        try:
            target(bytes(content))
        except BaseException:
            Path(f"crash-{tried}").write_bytes(content)
            raise
        tried += 1
    print(f"{tried:,} inputs tried in {seconds} s")


def _root(work: Path) -> Path:
    """A folder with the pictures a.png and b.png, as all layouts have them."""
    from PIL import Image

    root = work / "set"
    for folder in ("images", "labels", "lists"):
        (root / folder).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (64, 48), (ord(name), 0, 0)).save(root / "images" / f"{name}.png")
        (root / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.25 0.5\n")
        (root / "labels" / f"{name}.xml").write_text(VOC.replace("a.png", f"{name}.png"))
        (root / "lists" / f"{name}.txt").write_text(f"images/{name}.png\n")
        (root / "lists" / f"{name}.stems").write_text(f"{name}\n")
        text = json.dumps(COCO).replace("a.png", f"{name}.png")
        (root / f"{name}.json").write_text(text)
    (root / "data.yaml").write_text("names: [cat]\n")
    return root


def _data(work: Path, place: str, **described: Any) -> Callable[[bytes], None]:
    """Read a data set whose file ``place`` holds the input, prepare it if nothing is wrong with it, and read that."""
    from pydantic import TypeAdapter

    from tood.config.datasets import DatasetConfig
    from tood.data.findings import Findings
    from tood.data.formats.reading import read_dataset
    from tood.data.prepare import prepare_dataset
    from tood.data.split_table import SplitTable
    from tood.data.training_targets import TrainingTargets

    root = _root(work)
    config = TypeAdapter(DatasetConfig).validate_python({"name": "x", "root": str(root), **described})
    out = work / "data"

    def try_it(content: bytes) -> None:
        (root / place).write_bytes(content)
        findings = Findings()
        read_dataset(config, root, findings)
        findings.sentences("error")
        if not findings.errors:
            prepared = prepare_dataset(config, out / "x", mirror=None, params_root=PROJECT / "params")
            TrainingTargets.of(SplitTable.of_split(prepared.split("train"), prepared.classes))
            shutil.rmtree(out / "x")

    out.mkdir()
    return try_it


def _coco(work: Path) -> Callable[[bytes], None]:
    splits = {
        "train": {"images": "images", "annotations": "a.json"},
        "val": {"images": "images", "annotations": "b.json"},
    }
    return _data(work, "a.json", format="coco", splits=splits)


def _voc(work: Path) -> Callable[[bytes], None]:
    splits = {"train": "lists/a.stems", "val": "lists/b.stems"}
    return _data(work, "labels/a.xml", format="voc", images="images", annotations="labels", splits=splits)


def _yolo(work: Path) -> Callable[[bytes], None]:
    """The first line is the list of images, the others the labels."""
    splits = {"train": "lists/a.txt", "val": "lists/b.txt"}
    inner = _data(work, "lists/a.txt", format="yolo", splits=splits)

    def try_it(content: bytes) -> None:
        first, _, rest = content.partition(b"\n")
        (work / "set/labels/a.txt").write_bytes(rest)
        inner(first)

    return try_it


def _names(work: Path) -> Callable[[bytes], None]:
    return _data(work, "data.yaml", format="yolo", splits={"train": "lists/a.txt", "val": "lists/b.txt"})


def _json(work: Path) -> Callable[[bytes], None]:
    """What a run leaves behind, as ``tood compare`` reads it."""
    from tood.data.split_table import SplitTable
    from tood.evaluation.coco_metrics import match_detections
    from tood.reporting.run_folder import RunFolder

    root = _root(work)
    table = SplitTable.of_json(root / "a.json")
    run = RunFolder(root)

    def try_it(content: bytes) -> None:
        for name in ("detections.json", "metrics.json", "train.json", "alignment.json"):
            (root / name).write_bytes(content)
        for read in (run.metrics, run.training, run.alignment):
            refused(read)
        match_detections(table, run.detections())

    return try_it


def _params(work: Path, place: str, load: Callable[[Path], Any]) -> Callable[[bytes], None]:
    params = work / "project/params"
    shutil.copytree(PROJECT / "params", params)

    def try_it(content: bytes) -> None:
        (params / place).write_bytes(content)
        load(params)

    return try_it


def _dataset(work: Path) -> Callable[[bytes], None]:
    from tood.config.datasets import load_dataset

    return _params(work, "datasets/x.yaml", lambda params: load_dataset("x", params))


def _study(work: Path) -> Callable[[bytes], None]:
    from tood.config.study import load_study

    return _params(work, "studies/x.yaml", lambda params: load_study("x", params))


def _archive(work: Path) -> Callable[[bytes], None]:
    from tood.data.fetch.archives import unpack

    file, out = work / "x.archive", work / "unpacked/here"
    file.touch()
    out.mkdir(parents=True)

    def try_it(content: bytes) -> None:
        file.write_bytes(content)
        try:
            unpack(file, out)
        finally:
            assert [path.name for path in out.parent.iterdir()] == ["here"], "written beside the target"
            shutil.rmtree(out)
            out.mkdir()

    return try_it


def _file(file: Path, *readers: Callable[[Path], object]) -> Callable[[bytes], None]:
    """Each reader of a file that holds the input."""
    file.touch()

    def try_it(content: bytes) -> None:
        file.write_bytes(content)
        for read in readers:
            refused(read, file)

    return try_it


def _image(work: Path) -> Callable[[bytes], None]:
    from tood.data.decode import decode_image

    return _file(work / "x.jpg", decode_image)


def _weights(work: Path) -> Callable[[bytes], None]:
    from tood.weights.mmdet.checkpoint_file import read_foreign_file
    from tood.weights.tensor_files import load_tensors

    return _file(work / "x.pt", load_tensors, read_foreign_file)


LOADERS: dict[str, Callable[[Path], Callable[[bytes], None]]] = {
    "coco": _coco,
    "json": _json,
    "voc": _voc,
    "yolo": _yolo,
    "names": _names,
    "dataset": _dataset,
    "study": _study,
    "archive": _archive,
    "image": _image,
    "weights": _weights,
}

REACHED = {
    "archive": ("tood.data.fetch.archives",),
    "image": ("tood.data.decode",),
    "json": ("tood.reporting.run_folder", "tood.evaluation.coco_metrics"),
    "weights": ("tood.weights.mmdet.checkpoint_file",),
}
"""Modules whose code the fuzzer watches; libraries in C, such as Pillow's decoders, it cannot."""

if __name__ == "__main__":
    main()
