"""Checkpoint files are read as data: nothing in them runs, whatever they say."""

import os
import pickle
import struct
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tood.io.errors import UserError
from tood.weights.mmdet.checkpoint_file import Inert, read_foreign_file
from tood.weights.mmdet.mmdet_config import read_config
from tood.weights.tensor_files import load_tensors

FORMATS = (True, False)


class Malicious:
    """Unpickled the ordinary way, it calls what it was given."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def content() -> dict[str, Any]:
    state = OrderedDict(
        weight=torch.randn(3, 4),
        half=torch.randn(5).half(),
        view=torch.arange(12).reshape(3, 4).t()[1:],
        empty=torch.zeros(0, 3),
        single=torch.tensor(7),
        parameter=torch.nn.Parameter(torch.ones(2)),
    )
    state["shared"] = state["weight"][1:]
    return {"state_dict": state, "meta": {"CLASSES": ("a", "b"), "epoch": 3, "text": "ü"}}


@pytest.mark.parametrize("modern", FORMATS)
def test_tensors_and_plain_values_come_back(tmp_path: Path, modern: bool) -> None:
    written = content()
    torch.save(written, tmp_path / "x.pth", _use_new_zipfile_serialization=modern)
    found = read_foreign_file(tmp_path / "x.pth")
    assert found["meta"] == written["meta"]
    assert list(found["state_dict"]) == list(written["state_dict"])
    for key, value in written["state_dict"].items():
        assert found["state_dict"][key].dtype == value.dtype
        assert torch.equal(found["state_dict"][key], value)


@pytest.mark.parametrize("modern", FORMATS)
def test_nothing_in_a_file_is_executed(tmp_path: Path, modern: bool) -> None:
    """Code in the meta, in the state dict, as a key, as an item of a list: none of it leaves a trace."""
    marks = [tmp_path / f"mark{number}" for number in range(6)]
    touch = [f"touch {mark}" for mark in marks]
    written = content()
    written["meta"] |= {
        "hook": Malicious(os.system, touch[0]),
        "list": [
            Malicious(subprocess.call, ["touch", str(marks[1])]),
            Malicious(eval, f"open({str(marks[2])!r}, 'w')"),
        ],
        Malicious(os.system, touch[3]): 1,
        "file": Malicious(open, str(marks[4]), "w"),
    }
    written["state_dict"]["code"] = Malicious(exec, f"open({str(marks[5])!r}, 'w')")
    path = tmp_path / "x.pth"
    torch.save(written, path, _use_new_zipfile_serialization=modern)
    found = read_foreign_file(path)
    assert [mark.name for mark in marks if mark.exists()] == []
    assert found["state_dict"]["code"] is Inert
    assert torch.equal(found["state_dict"]["weight"], written["state_dict"]["weight"])
    torch.load(path, weights_only=False)
    assert all(mark.exists() for mark in marks), "these files do execute code where they are trusted"


@pytest.mark.parametrize("modern", FORMATS)
def test_what_toolboxes_store_along_is_passed_over(tmp_path: Path, modern: bool) -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    written = content() | {"optimizer": optimizer, "model": layer, "path": Path("x")}
    written["meta"] |= {"loss": np.float64(0.5), "seed": np.int64(3), "history": np.arange(4), "dtype": np.dtype("f4")}
    torch.save(written, tmp_path / "x.pth", _use_new_zipfile_serialization=modern)
    found = read_foreign_file(tmp_path / "x.pth")
    assert found["meta"]["loss"] is Inert
    assert found["meta"]["epoch"] == 3
    assert torch.equal(found["state_dict"]["view"], written["state_dict"]["view"])


def test_how_tensors_are_put_together_cannot_be_changed(tmp_path: Path) -> None:
    """A pickle may set the state of what it names; here that is refused."""
    body = pickle.PROTO + b"\x02" + b"ctorch._utils\n_rebuild_tensor_v2\n" + pickle.EMPTY_DICT + pickle.BUILD + b"."
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", body)
    with pytest.raises(UserError, match="changes how tensors are put together"):
        read_foreign_file(tmp_path / "x.pth")


def test_announcing_more_numbers_than_there_are_takes_no_memory(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "small.pth")
    with zipfile.ZipFile(tmp_path / "small.pth") as archive:
        body = archive.read("small/data.pkl")
    huge = body.replace(b"K\x03t", b"J" + struct.pack("<i", 2**31 - 1) + b"t", 1)
    assert huge != body
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", huge)
    with pytest.raises(UserError, match="announces more numbers than it has"):
        read_foreign_file(tmp_path / "x.pth")


def test_tensors_stay_inside_their_numbers(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "small.pth")
    with zipfile.ZipFile(tmp_path / "small.pth") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["small/data.pkl"] = entries["small/data.pkl"].replace(b"K\x03\x85", b"K\x7f\x85", 1)
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(UserError, match="cannot be read as weights"):
        read_foreign_file(tmp_path / "x.pth")


@pytest.mark.parametrize("modern", FORMATS)
@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 0.999), byte=st.integers(0, 255))
def test_damaged_files_are_refused_or_read_but_never_crash(
    tmp_path_factory: pytest.TempPathFactory, modern: bool, share: float, byte: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "x.pth"
    torch.save(content(), path, _use_new_zipfile_serialization=modern)
    whole = path.read_bytes()
    cut = int(share * len(whole))
    for damaged in (whole[:cut], whole[:cut] + bytes([byte]) + whole[cut + 1 :]):
        path.write_bytes(damaged)
        with suppress(UserError):
            read_foreign_file(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with pytest.raises(UserError, match="no such file"):
        read_foreign_file(path)
    for body in (b"", b"text", pickle.dumps({"a": 1}), b"\x80\x02" + b"." * 20):
        path.write_bytes(body)
        with pytest.raises(UserError, match="cannot be read as weights"):
            read_foreign_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(1))
        archive.writestr("x/constants.pkl", pickle.dumps(1))
    with pytest.raises(UserError, match=r"no archive of torch\.save"):
        read_foreign_file(path)


@pytest.mark.parametrize("read", [read_foreign_file, load_tensors])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
    ],
)
def test_what_came_instead_of_weights_is_named(
    tmp_path: Path, read: Callable[[Path], object], body: bytes, said: str
) -> None:
    (tmp_path / "x.pth").write_bytes(body)
    with pytest.raises(UserError, match=said):
        read(tmp_path / "x.pth")


def test_configurations_are_read_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    text = "a = dict(b=[1, -2.5, (3, None)], c={'d': True}, e=print('no'))\nf = a['b']\nimport os\ng = 'x'\n"
    config = read_config({"cfg": text})
    assert config.get("a", "b") == [1, -2.5, (3, None)]
    assert config.get("a", "c", "d") is True
    assert config.get("a", "e") is None
    assert config.get("g") == "x"
    assert config.get("f") is None
    assert capsys.readouterr().out == ""
    for broken in ("a = (", "x" * 10 + "(" * 5000, "\0", ""):
        assert read_config({"config": broken}).values == {}
    assert read_config({"cfg": Inert}).values == {}
