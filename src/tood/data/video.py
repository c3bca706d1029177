"""Videos: their frames as they are shown, and pictures as a video. Needs PyAV (extra ``video``)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tood.io.errors import UserError
from tood.io.escape import escape
from tood.io.write import atomic_path

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})

_ALL_THERE = 0.99
"""Of the frames that a file announces: those before an edit's beginning are never shown."""


@dataclass(frozen=True)
class Frame:
    """One picture of a video, turned as a player shows it."""

    pixels: NDArray[np.uint8]
    """(H,W,3) RGB."""
    time: Fraction
    """In seconds."""


def require_pyav(path: Path) -> None:
    """UserError, which says what ``path`` needs, where PyAV is not installed."""
    if find_spec("av") is None:
        raise UserError(f"{path}: videos need the package av, which is not installed; pip install '.[video]'")


class Video:
    """An opened video. Raises UserError where it cannot be opened, or holds no pictures."""

    def __init__(self, path: Path) -> None:
        require_pyav(path)
        import av

        self.path = path
        try:
            self._container = av.open(str(path))
            streams = self._container.streams.video
        except (OSError, ValueError, av.FFmpegError) as error:
            raise UserError(f"{path}: cannot be opened as a video ({_reason(error)}).") from error
        if not streams:
            self._container.close()
            raise UserError(f"{path}: holds no pictures, only sound or text.")
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"

    @property
    def announced(self) -> int:
        """Frames that the file says it has; 0 where it does not say."""
        return int(self._stream.frames)

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average."""
        return Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)

    def frames(self) -> Iterator[Frame]:
        """All frames in the order in which they are shown.

        Raises UserError after the last one that can be decoded, where the file says that there are more.
        """
        import av

        count, step = 0, 1 / self.rate
        try:
            for frame in self._container.decode(self._stream):
                pixels: Any = frame.to_ndarray(format="rgb24")
                turned = np.ascontiguousarray(np.rot90(pixels, self._rotation(frame) // 90))
                time = count * step if frame.pts is None else frame.pts * Fraction(frame.time_base or step)
                count += 1
                yield Frame(turned, time)
        except (OSError, ValueError, av.FFmpegError) as error:
            raise UserError(f"{self.path}: is damaged after frame {count} ({_reason(error)}).") from error
        if count < _ALL_THERE * self.announced or count == 0:
            raise UserError(f"{self.path}: ends early, after frame {count} of {self.announced}.")

    def _rotation(self, frame: Any) -> int:
        """By which it is shown turned, in degrees to the left."""
        return int(frame.rotation)

    def close(self) -> None:
        self._container.close()


@contextmanager
def opened(path: Path) -> Iterator[Video]:
    """The video at ``path`` until the context ends."""
    video = Video(path)
    try:
        yield video
    finally:
        video.close()


class VideoWriter:
    """An MP4 file (H.264) to which pictures of one size are added."""

    _TICKS = 90_000  # of a second

    def __init__(self, container: Any, rate: Fraction) -> None:
        self._container, self._rate = container, rate
        self._stream: Any = None
        self._last = -1

    def add(self, picture: Image.Image, time: Fraction) -> None:
        """``picture`` is shown from ``time`` seconds on; it is cut to even sides, as the format wants them."""
        import av

        even = picture.crop((0, 0, picture.width // 2 * 2 or 2, picture.height // 2 * 2 or 2))
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate.limit_denominator(65_535))
            self._stream.width, self._stream.height = even.size
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, self._TICKS)
        if even.size != (self._stream.width, self._stream.height):
            even = even.resize((self._stream.width, self._stream.height))
        frame = av.VideoFrame.from_image(even)  # type: ignore[no-untyped-call]
        frame.pts = self._last = max(round(time * self._TICKS), self._last + 1)
        frame.time_base = Fraction(1, self._TICKS)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))


@contextmanager
def written(path: Path, rate: Fraction) -> Iterator[VideoWriter]:
    """A video that is at ``path`` once the context ends without an error; ``rate`` in frames a second."""
    import av

    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        writer = VideoWriter(container, rate)
        yield writer
        writer.finish()


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return escape(text, most=200)
