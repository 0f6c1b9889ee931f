"""Reading and writing of video as frames and their times, through PyAV."""

from __future__ import annotations

import errno
import io
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from segscape.files import atomic_path, check_readable
from segscape.messages import say_once
from segscape.rasters.video_size import missing_bytes

_log = logging.getLogger(__name__)

_SUFFIXES = frozenset({".mkv", ".mov", ".mp4"})
# The number of ITU-R BT.709 in the tables of colour spaces, primaries and transfer functions.
_BT709 = 1
# The constant rate factor, from 0 (lossless) to 51 (worst). Higher values would lose faint borders between frames.
_QUALITY = "18"


class IncompleteVideoError(ValueError):
    """A video ends before its last frame: it is cut short or damaged."""


@dataclass(frozen=True)
class TimedFrame:
    """A frame of a video.

    Attributes:
        pixels: (H, W, 3) uint8, red, green, blue, upright.
        time: When it is shown, in seconds from the beginning of the file.
    """

    pixels: npt.NDArray[np.uint8]
    time: Fraction


class VideoSource:
    """The frames of a video file, in the order in which they are shown, upright.

    Iterating yields `TimedFrame`, and can be repeated.

    Args:
        path: The file.

    Attributes:
        path: The file.
        size: (height, width) in pixels.
        pixel_aspect: The width of a pixel by its height, where they are shown; 1 for most videos.
        frame_rate: Frames a second, on average.
        time_base: The seconds of which the file's times are multiples.
        start: The time in the file, in seconds, of its first frame or sound; `TimedFrame.time` counts from there.
        frames: The number of frames, where the file states it.

    Raises:
        ModuleNotFoundError: PyAV is missing; the message names the extra.
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: It is no video, or not even its first frame can be decoded; the message names it.
        IncompleteVideoError: While iterating, after the last whole frame: the file is cut short, damaged, or its frames
            change their size.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._av = _load_av(self.path)
        check_readable(self.path)
        with self._decoding(0), self._av.open(self.path) as container:
            if not container.streams.video:
                raise ValueError(f"{self.path} holds no video.")
            stream = container.streams.video[0]
            first = next(container.decode(stream), None)
            if first is None:
                raise ValueError(f"{path} holds no frame that can be decoded.")
            pixels = _upright(first)
            self.size = pixels.shape[0], pixels.shape[1]
            aspect = Fraction(stream.sample_aspect_ratio or 1)
            self.pixel_aspect = aspect if pixels.shape[0] == first.height else 1 / aspect
            self.frame_rate: Fraction = stream.average_rate or stream.guessed_rate or Fraction(25)
            self.time_base: Fraction = stream.time_base
            self.frames: int | None = stream.frames or None
            self.start = Fraction(container.start_time or 0, self._av.time_base)

    def __iter__(self) -> Iterator[TimedFrame]:
        number = 0
        with self._decoding(number), self._av.open(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            # AVI stores no times of presentation: a frame's place in the file is its time, which FFmpeg keeps as that
            # of decoding.
            has_order_alone = container.format.name == "avi"
            frames = self._whole_frames(container, stream)
            last: Fraction | None = None
            while True:
                with self._decoding(number):
                    frame = next(frames, None)
                if frame is None:
                    break
                pixels = _upright(frame)
                if pixels.shape[:2] != self.size:
                    raise IncompleteVideoError(
                        f"The frames of {self.path} change their size from {self.size[1]} x {self.size[0]} to "
                        f"{pixels.shape[1]} x {pixels.shape[0]} after frame {number}."
                    )
                stamp = frame.dts if has_order_alone else frame.pts
                time = None if stamp is None else stamp * self.time_base - self.start
                if last is not None and (time is None or time <= last):
                    time = last + 1 / self.frame_rate
                last = Fraction(0) if time is None else time
                yield TimedFrame(pixels, last)
                number += 1
        if missing := missing_bytes(self.path):
            raise IncompleteVideoError(
                f"{self.path} is cut short after frame {number}: its last {missing:,} bytes are missing."
            )

    def _whole_frames(self, container: Any, stream: Any) -> Iterator[Any]:
        """Decode frames up to the first of which the file holds no more than a part."""
        for packet in container.demux(stream):
            if packet.is_corrupt:
                yield from stream.codec_context.decode(None)
                raise self._av.InvalidDataError(errno.EINVAL, "a part of the next one is missing")
            yield from packet.decode()

    @contextmanager
    def _decoding(self, number: int) -> Iterator[None]:
        """Turn FFmpeg's errors while frame `number` is decoded into a sentence that names the file."""
        try:
            yield
        except self._av.FFmpegError as error:
            kind = IncompleteVideoError if number else ValueError
            raise kind(
                f"{self.path} cannot be decoded after frame {number}, it may be cut short or damaged: {error.strerror}."
            ) from None


class VideoSink:
    """An H.264 video file, which every player and browser shows, written frame by frame.

    A context manager; the file appears when it is left without an error. Frames of an odd height or width, which the
    format does not support, are padded with a copy of their last row or column.

    Args:
        path: The file, `.mp4`, `.mkv` or `.mov`.
        size: (height, width) of all frames.
        frame_rate: Frames a second, on average.
        time_base: The seconds of which all frame times are multiples (default: those of a frame).
        pixel_aspect: The width of a pixel by its height, where they are shown.
        sound_of: A video whose sound is copied, as it is encoded. That of a codec which the format cannot hold is left
            out, which is logged.

    Raises:
        ModuleNotFoundError: PyAV is missing; the message names the extra.
        ValueError: The suffix is none of these, or the frame rate is not positive.
        OSError: The file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        frame_rate: Fraction | float,
        *,
        time_base: Fraction | None = None,
        pixel_aspect: Fraction = Fraction(1),
        sound_of: VideoSource | None = None,
    ) -> None:
        if path.suffix.lower() not in _SUFFIXES:
            raise ValueError(f"{path} does not end in {', '.join(sorted(_SUFFIXES))}, the videos that can be written.")
        if frame_rate <= 0:
            raise ValueError(f"A video needs a positive number of frames a second, not {frame_rate}.")
        self.path = path
        self.size = size
        self.frame_rate = Fraction(frame_rate).limit_denominator(60000)
        self._time_base = time_base or 1 / self.frame_rate
        self._pixel_aspect = pixel_aspect
        self._source = sound_of
        self._av = _load_av(path)
        self._last = -1

    @classmethod
    def like(cls, source: VideoSource, path: Path) -> Self:
        """Return a sink for frames of a source's size and times, with its sound."""
        return cls(
            path,
            source.size,
            source.frame_rate,
            time_base=source.time_base,
            pixel_aspect=source.pixel_aspect,
            sound_of=source,
        )

    def __enter__(self) -> Self:
        height, width = (side + side % 2 for side in self.size)
        with ExitStack() as opening, self._disk_errors():
            temporary = opening.enter_context(atomic_path(self.path))
            self._container = opening.enter_context(self._av.open(temporary, "w"))
            self._stream = self._container.add_stream("libx264", self.frame_rate, options={"crf": _QUALITY})
            self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
            context = self._stream.codec_context
            context.time_base = self._time_base
            context.sample_aspect_ratio = self._pixel_aspect
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            self._sound = iter(()) if self._source is None else self._open_sound(self._source, opening)
            self._packet: Any = next(self._sound, None)
            self._open = opening.pop_all()
        return self

    def write(self, frame: npt.NDArray[np.uint8], time: Fraction | None = None) -> None:
        """Append a frame.

        Args:
            frame: (H, W, 3) uint8, red, green, blue.
            time: When it is shown, in seconds; later than the one before (default: the next multiple of the time base).

        Raises:
            ValueError: It has another size.
            OSError: The file cannot be written.
        """
        if frame.shape != (*self.size, 3):
            raise ValueError(f"A frame of shape {frame.shape} is not of the video's size {self.size}.")
        height, width = self.size
        padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        image = self._av.VideoFrame.from_ndarray(padded, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=_BT709
        )
        stamp = self._last + 1 if time is None else round(time / self._time_base)
        self._last = image.pts = max(stamp, self._last + 1)
        image.time_base = self._time_base
        with self._disk_errors():
            self._copy_sound(until=self._last * self._time_base)
            self._encode(image)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._disk_errors():
            if kind is not None:
                self._open.__exit__(kind, error, trace)
                return
            with self._open:
                self._encode(None)
                self._copy_sound(until=None)

    def _encode(self, frame: Any) -> None:
        """Encode a frame and write the packets that are ready; `None` writes those that the encoder holds back."""
        self._container.mux(self._stream.encode(frame))

    def _open_sound(self, source: VideoSource, opening: ExitStack) -> Iterator[Any]:
        """Add a source's tracks of sound to the file, and return their packets, placed in it."""
        container = opening.enter_context(self._av.open(source.path))
        tracks = {}
        for track in container.streams.audio:
            if self._can_hold(track):
                tracks[track.index] = self._container.add_stream_from_template(track)
            else:
                # FFmpeg has no decoder for what the file says, if that is damaged.
                codec = track.codec_context.codec.canonical_name if track.codec_context else "unknown"
                say_once(
                    _log, f"{source.path.name}: {self.path.suffix} cannot hold its sound ({codec}), it is left out."
                )
        return self._placed_sound(container, tracks, source.start) if tracks else iter(())

    def _can_hold(self, track: Any) -> bool:
        """Return whether the format has a place for a track: tables say less than the head of a file written."""
        with self._av.open(io.BytesIO(), "w", format=self._container.format.name) as trial:
            try:
                trial.add_stream_from_template(track)
                trial.start_encoding()
            except (ValueError, self._av.FFmpegError):
                return False
        return True

    def _placed_sound(self, container: Any, tracks: dict[int, Any], start: Fraction) -> Iterator[Any]:
        """Yield the packets of some tracks as they are to be written, up to the first that is damaged."""
        last = dict.fromkeys(tracks, -math.inf)
        with suppress(self._av.FFmpegError):
            for packet in container.demux([container.streams[index] for index in tracks]):
                index = packet.stream.index
                # The muxer needs times that grow; the last packet of each track is empty.
                if packet.dts is None or packet.pts is None or packet.is_corrupt or packet.dts <= last[index]:
                    continue
                last[index] = packet.dts
                shift = round(start / packet.time_base)
                packet.dts, packet.pts = packet.dts - shift, packet.pts - shift
                packet.stream = tracks[index]
                yield packet

    def _copy_sound(self, until: Fraction | None) -> None:
        """Write the packets of sound up to a time in seconds, or all that are left."""
        while self._packet is not None and (until is None or self._packet.dts * self._packet.time_base <= until):
            self._container.mux(self._packet)
            self._packet = next(self._sound, None)

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
