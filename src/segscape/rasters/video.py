"""Reading and writing of video as arrays of frames, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from segscape.files import atomic_path, check_readable

_SUFFIXES = frozenset({".mkv", ".mov", ".mp4"})
# The number of ITU-R BT.709 in the tables of colour spaces, primaries and transfer functions.
_BT709 = 1
# The constant rate factor, from 0 (lossless) to 51 (worst). Higher values would lose faint borders between frames.
_QUALITY = "18"


class VideoSource:
    """The frames of a video file, in the order in which they are shown, upright.

    Iterating yields (H, W, 3) uint8, red, green, blue, and can be repeated. Sound is ignored, and so are differences in
    the duration of frames.

    Args:
        path: The file.

    Attributes:
        path: The file.
        size: (height, width) in pixels.
        frame_rate: Frames a second, on average.
        frames: The number of frames, where the file states it.

    Raises:
        ModuleNotFoundError: PyAV is missing; the message names the extra.
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: It is no video, or damaged; the message names it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._av = _load_av(self.path)
        check_readable(self.path)
        first = next(iter(self), None)
        if first is None:
            raise ValueError(f"{path} holds no frame that can be decoded.")
        self.size = first.shape[0], first.shape[1]
        with self._av.open(self.path) as container:
            stream = container.streams.video[0]
            self.frame_rate: Fraction = stream.average_rate or stream.guessed_rate
            self.frames: int | None = stream.frames or None

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        number = 0
        try:
            with self._av.open(self.path) as container:
                if not container.streams.video:
                    raise ValueError(f"{self.path} holds no video.")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    yield _upright(frame)
                    number += 1
        except self._av.FFmpegError as error:
            raise ValueError(
                f"{self.path} cannot be decoded after frame {number}, it may be cut short or damaged: {error.strerror}."
            ) from None


class VideoSink:
    """An H.264 video file, which every player and browser shows, written frame by frame.

    A context manager; the file appears when it is left without an error. Frames of an odd height or width, which the
    format does not support, are padded with a copy of their last row or column.

    Args:
        path: The file, `.mp4`, `.mkv` or `.mov`.
        size: (height, width) of all frames.
        frame_rate: Frames a second.

    Raises:
        ModuleNotFoundError: PyAV is missing; the message names the extra.
        ValueError: The suffix is none of these, or the frame rate is not positive.
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], frame_rate: Fraction | float) -> None:
        if path.suffix.lower() not in _SUFFIXES:
            raise ValueError(f"{path} does not end in {', '.join(sorted(_SUFFIXES))}, the videos that can be written.")
        if frame_rate <= 0:
            raise ValueError(f"A video needs a positive number of frames a second, not {frame_rate}.")
        self.path = path
        self.size = size
        self.frame_rate = Fraction(frame_rate).limit_denominator(60000)
        self._av = _load_av(path)

    def __enter__(self) -> Self:
        height, width = (side + side % 2 for side in self.size)
        with ExitStack() as opening, self._disk_errors():
            temporary = opening.enter_context(atomic_path(self.path))
            self._container = opening.enter_context(self._av.open(temporary, "w"))
            self._stream = self._container.add_stream("libx264", self.frame_rate, options={"crf": _QUALITY})
            self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
            self._stream.codec_context.colorspace = self._stream.codec_context.color_primaries = _BT709
            self._stream.codec_context.color_trc = _BT709
            self._open = opening.pop_all()
        return self

    def write(self, frame: npt.NDArray[np.uint8]) -> None:
        """Append a frame, (H, W, 3) uint8, red, green, blue.

        Raises:
            ValueError: It has another size.
            OSError: The file cannot be written.
        """
        if frame.shape != (*self.size, 3):
            raise ValueError(f"A frame of shape {frame.shape} is not of the video's size {self.size}.")
        height, width = self.size
        padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        image = self._av.VideoFrame.from_ndarray(padded, format="rgb24")
        with self._disk_errors():
            self._encode(image.reformat(format="yuv420p", dst_colorspace=_BT709))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._disk_errors():
            if kind is not None:
                self._open.__exit__(kind, error, trace)
                return
            with self._open:
                self._encode(None)

    def _encode(self, frame: Any) -> None:
        """Encode a frame and write the packets that are ready; `None` writes those that the encoder holds back."""
        self._container.mux(self._stream.encode(frame))

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except self._av.FFmpegError as error:
            raise OSError(f"{self.path} cannot be written: {error.strerror}.") from None


def _load_av(path: Path) -> Any:
    try:
        import av
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"The video {path} needs PyAV: pip install 'segscape[video]'.", name="av") from None
    return av


def _upright(frame: Any) -> npt.NDArray[np.uint8]:
    """Convert a decoded frame to (H, W, 3) uint8, rotated upright."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
