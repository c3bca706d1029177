"""Files of weights that hold code, or little that stands for much: every way in refuses or ignores it."""

import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import ResNet18_Weights, get_model

from tood.config.backbone import BackboneConfig
from tood.config.study import load_study
from tood.detection.detector import build_detector
from tood.evaluation.alignment_files import read_arrays
from tood.io.errors import UserError
from tood.training.checkpoint import CheckpointStore
from tood.weights.mmdet.importing import import_checkpoint
from tood.weights.model_file import load_detection_model, load_model, save_model
from tood.weights.starting_weights import load_starting_weights, read_checkpoint
from tood.weights.tensor_files import load_tensors, save_tensors

PARAMS = Path(__file__).parents[2] / "params"
READERS: list[Callable[[Path], Any]] = [
    load_tensors,
    load_model,
    load_detection_model,
    read_checkpoint,
    import_checkpoint,
]


class Code:
    """Unpickled in the ordinary way, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


def test_a_changed_byte_of_a_model_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_tensors(path, {"weights": torch.arange(1000.0)})
    whole = path.read_bytes()
    start = whole.index(torch.arange(1000.0).numpy().tobytes()[-64:])
    path.write_bytes(whole[:start] + bytes([whole[start] ^ 64]) + whole[start + 1 :])
    assert "it is damaged: 'archive/data/0' in it" in ends_in_a_sentence(lambda: load_tensors(path), path)


def ends_in_a_sentence(read: Callable[[], object], path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read()
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    assert "weights_only" not in sentence, "no advice to trust the file"
    return sentence


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("read", READERS)
def test_code_in_a_file_never_runs(tmp_path: Path, mark: Path, read: Callable[[Path], Any], modern: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save({"format": "tood-1", "config": Code(mark)}, path, _use_new_zipfile_serialization=modern)
    ends_in_a_sentence(lambda: read(path), path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "the file does hold code that runs where it is trusted"


@pytest.mark.parametrize("weights", ["generated", "imagenet", "file", "address"])
def test_code_in_starting_weights_never_runs(
    tmp_path: Path, mark: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside tensors that fit, so that what is loaded could be used."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    address = "https://example.org/x-0123abcd.pth"
    path = {
        "generated": tmp_path / "small.pt",
        "imagenet": tmp_path / "hub/checkpoints" / ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2],
        "file": tmp_path / "x.pt",
        "address": tmp_path / "hub/checkpoints/x-0123abcd.pth",
    }[weights]
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**get_model("resnet18").state_dict(), "code": Code(mark)}, path)
    named = {"file": str(path), "address": address}.get(weights, weights)
    backbone = BackboneConfig(name="small", kind="resnet18", weights=named, width=32, norm_groups=8)
    method = load_study("demo", PARAMS).run("atss").method
    detector = build_detector(method, backbone.model_copy(update={"weights": "none"}), 2)
    lines = load_starting_weights(detector, backbone, tmp_path)
    assert "tensors loaded" in lines[0]
    assert not mark.exists()


def test_code_in_resume_state_never_runs(tmp_path: Path, mark: Path) -> None:
    """Its checksum is no secret, so it proves nothing."""
    store = CheckpointStore(tmp_path / "state", "0123")
    store.save(1, {"step": Code(mark)})
    with suppress(UserError, pickle.UnpicklingError):
        assert store.load() is None
    assert not mark.exists()


def repacked(source: Path, target: Path, edit: Callable[[bytes], bytes] = bytes, **options: Any) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            new.writestr(name, edit(old.read(name)) if name.endswith("data.pkl") else old.read(name))
    return target


def expanded(path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(10**12)}, path)


def sparse(path: Path) -> None:
    torch.save({"a": torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (10**12,))}, path)


def without_numbers(path: Path) -> None:
    torch.save({"a": torch.empty(10**12, device="meta")}, path)


def announced(path: Path) -> None:
    torch.save({"a": torch.ones(3)}, path.with_suffix(".small"))
    count = b"\x8a\x05" + (10**11).to_bytes(5, "little")
    repacked(path.with_suffix(".small"), path, lambda body: body.replace(b"K\x03t", count + b"t", 1))


def compressed(path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 20)}, path.with_suffix(".large"))
    repacked(path.with_suffix(".large"), path, compression=zipfile.ZIP_DEFLATED)


def remembered(path: Path) -> None:
    """Python's unpickler in C would keep room for 2^31 values because the number of one is that large."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/version", "3")
        archive.writestr("x/data.pkl", b"\x80\x02]r\xff\xff\xff\x7f.")


def deep(path: Path) -> None:
    path.write_bytes(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")


def cut_off(path: Path) -> None:
    torch.save({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make", [expanded, sparse, without_numbers, announced, compressed, remembered, deep, cut_off, os.mkfifo, os.mkdir]
)
@pytest.mark.parametrize("read", READERS[1:])
def test_little_that_stands_for_much_is_refused(
    tmp_path: Path, read: Callable[[Path], Any], make: Callable[[Path], None]
) -> None:
    path = tmp_path / "model.pt"
    make(path)
    ends_in_a_sentence(lambda: read(path), path)


def test_tensors_that_share_their_numbers_are_read(tmp_path: Path) -> None:
    one = torch.arange(10.0)
    torch.save({"a": one, "b": one[3:], "c": one}, tmp_path / "x.pt")
    for found in (load_tensors(tmp_path / "x.pt"), read_checkpoint(tmp_path / "x.pt").state):
        assert torch.equal(found["b"], one[3:])
        assert torch.equal(found["c"], one)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"config": '{"a":' * 5000}, "is an incomplete model"),
        ({"config": "[]"}, "must hold a mapping"),
        ({"classes": [1, 2]}, "holds something else than names"),
        ({"classes": ["\ud800", "b"]}, "holds something else than names"),
        ({"category_ids": [1.5, 2]}, "holds something else than names"),
        ({"detector": {1: torch.ones(1)}}, "holds something else than names"),
        ({"detector": {"a": "b"}}, "holds something else than names"),
        ({"detector": {"a": torch.ones(1)}}, "its weights do not fit"),
    ],
)
def test_a_model_of_ours_with_other_content_is_one_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    path = written_model(tmp_path)
    torch.save({**torch.load(path), **changes}, path)
    assert sentence in ends_in_a_sentence(lambda: load_model(path), path)


def test_a_configuration_of_huge_layers_takes_no_memory(tmp_path: Path) -> None:
    path = written_model(tmp_path)
    content = torch.load(path)
    assert '"width":32' in content["config"]
    content["config"] = content["config"].replace('"width":32', '"width":65536')
    torch.save(content, path)
    assert "do not fit its configuration" in ends_in_a_sentence(lambda: load_model(path), path)
    content["config"] = content["config"].replace('"width":65536', '"width":65536000')
    torch.save(content, path)
    assert "65536" in ends_in_a_sentence(lambda: load_model(path), path)


def written_model(folder: Path) -> Path:
    config = load_study("demo", PARAMS).run("atss")
    small = config.backbone.model_copy(
        update={"weights": "none", "first_stage_width": 8, "width": 32, "norm_groups": 8}
    )
    config = config.model_copy(update={"backbone": small})
    detector = build_detector(config.method, config.backbone, 2)
    save_model(folder / "model.pt", config, ("cat", "dog"), (3, 7), detector)
    return folder / "model.pt"


def huge_arrays(path: Path) -> None:
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (53 - len(header) % 64 + 64) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("density.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


def pickled_arrays(path: Path) -> None:
    np.savez(path, density=np.array([Code(path.parent / "mark")], dtype=object))


def packed_arrays(path: Path) -> None:
    np.savez_compressed(path, density=np.zeros(100 << 20, np.uint8))


def other_shapes(path: Path) -> None:
    names = ("density", "image_ids", "objects", "points", "boxes", "scores", "ious")
    np.savez(path, **{name: np.zeros((2, 3)) for name in names})


@pytest.mark.parametrize("make", [huge_arrays, pickled_arrays, packed_arrays, other_shapes, os.mkfifo])
def test_arrays_of_an_analysis_that_are_none(tmp_path: Path, mark: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "alignment.npz")
    ends_in_a_sentence(lambda: read_arrays(tmp_path), tmp_path / "alignment.npz")
    assert not mark.exists()
