"""Videos in and out: frames as a player shows them, and a sentence for what cannot be read."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tood.data import video
from tood.data.video import Frame, opened, written
from tood.io.errors import UserError


def shade(number: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Left half of one shade, right half black."""
    picture = Image.new("RGB", size)
    picture.paste((0, 20 + 20 * number, 0), (0, 0, size[0] // 2, size[1]))
    return picture


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Nine frames of growing brightness, ten a second."""
    path = tmp_path / "clip.mp4"
    with written(path, Fraction(10)) as writer:
        for number in range(9):
            writer.add(shade(number), Fraction(number, 10))
    return path


def test_frames_come_back_in_order_with_their_times(clip: Path) -> None:
    with opened(clip) as found:
        assert (found.announced, found.rate) == (9, 10)
        frames = list(found.frames())
    assert [frame.time for frame in frames] == [Fraction(number, 10) for number in range(9)]
    assert [frame.pixels.shape for frame in frames] == [(48, 64, 3)] * 9
    for number, frame in enumerate(frames):
        assert abs(frame.pixels[:, :28, 1].mean() - (20 + 20 * number)) < 5
        assert frame.pixels[:, 36:].mean() < 5


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(1, 10), Fraction(7, 20), Fraction(1, 2)]
    with written(tmp_path / "a.mp4", Fraction(10)) as writer:
        for number, time in enumerate(times):
            writer.add(shade(number, (65, 47)), time)
    with opened(tmp_path / "a.mp4") as found:
        frames = list(found.frames())
    assert [frame.time for frame in frames] == times
    assert frames[0].pixels.shape == (46, 64, 3)


def test_turned_videos_are_upright(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Telephones write the direction beside the pixels; -90 is a turn to the right."""
    monkeypatch.setattr(video.Video, "_rotation", lambda self, frame: -90)
    with opened(clip) as found:
        first = next(found.frames()).pixels
    assert first.shape == (64, 48, 3)
    assert first[:28, :, 1].mean() > 15
    assert first[36:].mean() < 5


def early(path: Path) -> tuple[int, str]:
    """How many frames there are, and what is said then."""
    with opened(path) as found:
        kept: list[Frame] = []
        with pytest.raises(UserError) as caught:
            kept.extend(found.frames())
    return len(kept), str(caught.value)


def test_a_video_that_ends_early_says_so_after_what_there_is(clip: Path, tmp_path: Path) -> None:
    with (
        av.open(str(clip)) as source,
        av.open(str(tmp_path / "front.mov"), "w", options={"movflags": "faststart"}) as to,
    ):
        stream = to.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                to.mux(packet)
    whole = (tmp_path / "front.mov").read_bytes()
    (tmp_path / "short.mov").write_bytes(whole[: len(whole) - 160])
    frames, said = early(tmp_path / "short.mov")
    assert 0 < frames < 9
    assert f"short.mov: ends early, after frame {frames} of 9" in said or f"is damaged after frame {frames}" in said


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_other_files_are_refused(content: bytes | None, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.mp4"
    path.write_bytes(clip.read_bytes()[:600] if content is None else content)
    with pytest.raises(UserError, match=r"other\.mp4: cannot be opened as a video"), opened(path):
        pass


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match=r"sound\.mp4: holds no pictures"), opened(path):
        pass


def test_a_missing_package_is_said(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"clip\.mp4: videos need the package av"), opened(clip):
        pass
