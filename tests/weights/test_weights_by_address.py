"""Starting weights by address: fetched once, held against the digest in the file's name, and read safely."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from tood.config.backbone import BackboneConfig, address_digest
from tood.detection.backbones import build_backbone
from tood.detection.detector import Detector, build_detector
from tood.io.errors import UserError
from tood.weights.starting_weights import load_starting_weights


class _Quiet(SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which a server of this machine shows it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "served"
    folder.mkdir()
    _Quiet.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def publish(folder: Path, content: object, digest: str | None = None) -> str:
    """The file's name, which ends with the first digits of its SHA-256 (or those given)."""
    torch.save(content, folder / "x.pth")
    name = f"x-{digest or hashlib.sha256((folder / 'x.pth').read_bytes()).hexdigest()[:8]}.pth"
    (folder / "x.pth").rename(folder / name)
    return name


@pytest.fixture
def config() -> BackboneConfig:
    return BackboneConfig(name="small", kind="light", width=16, norm_groups=4, first_stage_width=8)


@pytest.fixture
def detector(config: BackboneConfig, method_named: object) -> Detector:
    return build_detector(method_named("tood"), config, 3)  # type: ignore[operator]


def test_weights_are_fetched_once_and_loaded(
    served: tuple[Path, str], config: BackboneConfig, detector: Detector, tmp_path: Path
) -> None:
    folder, address = served
    backbone = build_backbone(config)
    url = f"{address}/{publish(folder, {**backbone.state_dict(), 'fc.weight': torch.zeros(2, 2)})}"
    chosen = config.model_copy(update={"weights": url})
    for _ in range(2):
        lines = load_starting_weights(detector, chosen, tmp_path)
        assert torch.equal(detector.backbone.state_dict()["conv1.weight"], backbone.state_dict()["conv1.weight"])
        assert any("fc.weight" in line for line in lines if line.startswith("not used"))
    assert len(_Quiet.asked) == 1


def test_a_deformable_backbone_starts_from_plain_weights(
    served: tuple[Path, str], config: BackboneConfig, method_named: object, tmp_path: Path
) -> None:
    folder, address = served
    backbone = build_backbone(config)
    url = f"{address}/{publish(folder, backbone.state_dict())}"
    chosen = config.model_copy(update={"weights": url, "deformable": ("c4", "c5")})
    detector = build_detector(method_named("tood"), chosen, 3)  # type: ignore[operator]
    lines = load_starting_weights(detector, chosen, tmp_path)
    own = detector.backbone.state_dict()
    assert torch.equal(own["layer3.0.conv2.weight"], backbone.state_dict()["layer3.0.conv2.weight"])
    assert not own["layer3.0.conv2.conv_offset.weight"].any()
    (line,) = [line for line in lines if "freshly initialised" in line]
    assert line.count("conv_offset") == 6
    assert "num_batches_tracked" not in line


def test_a_file_that_is_not_what_its_name_says_is_refused(
    served: tuple[Path, str], config: BackboneConfig, detector: Detector, tmp_path: Path
) -> None:
    folder, address = served
    url = f"{address}/{publish(folder, build_backbone(config).state_dict(), digest='01234567')}"
    with pytest.raises(UserError, match=r"could not be fetched .*invalid hash value"):
        load_starting_weights(detector, config.model_copy(update={"weights": url}), tmp_path)
    assert not list((tmp_path / "torch").rglob("*.pth"))


def test_an_address_with_nothing_behind_it_is_named(
    served: tuple[Path, str], config: BackboneConfig, detector: Detector, tmp_path: Path
) -> None:
    url = f"{served[1]}/gone-01234567.pth"
    with pytest.raises(UserError, match=r"gone-01234567\.pth .*404.* give its path as weights"):
        load_starting_weights(detector, config.model_copy(update={"weights": url}), tmp_path)


@pytest.mark.parametrize(
    ("address", "digits"),
    [
        ("https://a.org/b/resnext101_64x4d-ee2c6f71.pth", "ee2c6f71"),
        ("http://127.0.0.1:1/x-0123456789abcdef.pt", "0123456789abcdef"),
        ("https://a.org/resnext101.pth", None),
        ("https://a.org/x-0123.pth", None),
        ("files/x-01234567.pth", None),
    ],
)
def test_the_digest_is_the_end_of_the_files_name(address: str, digits: str | None) -> None:
    assert address_digest(address) == digits
