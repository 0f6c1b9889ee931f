"""Frames in and out of video files."""

import struct
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from segscape.rasters.video import VideoSink, VideoSource

COLOURS = np.array([[(230, 25, 75), (0, 130, 200)], [(60, 180, 75), (245, 130, 48)]], np.uint8)


def frames(height: int = 48, width: int = 64, count: int = 7) -> list[np.ndarray]:
    """Four areas of one colour, and a bright bar that moves down."""
    still = COLOURS.repeat(height // 2 + height % 2, axis=0).repeat(width // 2 + width % 2, axis=1)[:height, :width]
    moving = [still.copy() for _ in range(count)]
    for number, frame in enumerate(moving):
        frame[4 * number : 4 * number + 4] = 255
    return moving


def is_near(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether areas have the same colours; their borders are blurred, as colours have half the resolution."""
    difference = np.abs(first.astype(int) - second)
    return np.median(difference) <= 2 and difference.mean() < 5


def write(path: Path, images: list[np.ndarray], frame_rate: Fraction | float = 25) -> Path:
    with VideoSink(path, images[0].shape[:2], frame_rate) as sink:
        for image in images:
            sink.write(image)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_frames_come_back(tmp_path: Path, suffix: str) -> None:
    images = frames()
    source = VideoSource(write(tmp_path / "new" / f"a{suffix}", images, Fraction(30000, 1001)))
    assert source.size == (48, 64)
    assert float(source.frame_rate) == pytest.approx(29.97, abs=0.03)
    assert source.frames in ({7} if suffix != ".mkv" else {7, None})
    for _ in range(2):
        read = list(source)
        assert len(read) == 7
        assert all(is_near(a, b) for a, b in zip(images, read, strict=True))
    assert [file.name for file in (tmp_path / "new").iterdir()] == [f"a{suffix}"]


def test_every_player_can_show_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", frames())
    with av.open(path) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        # ITU-R BT.709, said and done.
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == 25
    read, image = capture.read()
    assert read
    assert is_near(frames()[0], image[..., ::-1])


def test_odd_sizes_get_a_row_and_a_column(tmp_path: Path) -> None:
    images = frames(49, 63)
    source = VideoSource(write(tmp_path / "a.mp4", images))
    assert source.size == (50, 64)
    assert all(is_near(a, b[:49, :63]) for a, b in zip(images, source, strict=True))


def test_frames_are_upright(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", frames())
    lying = list(VideoSource(path))
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30), data.index(b"tkhd"))
    # The matrix of a video to be shown turned by 90 degrees, clockwise.
    struct.pack_into(">9i", data, place, 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    source = VideoSource(path)
    assert source.size == (64, 48)
    assert all(np.array_equal(np.rot90(a, -1), b) for a, b in zip(lying, source, strict=True))


def test_what_is_no_video(tmp_path: Path, monkeypatch) -> None:
    path = write(
        tmp_path / "a.mkv", [np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8) for i in range(9)]
    )
    (tmp_path / "b.mkv").write_bytes(path.read_bytes()[:400])
    (tmp_path / "c.mp4").write_text("no video")
    for name in ("b.mkv", "c.mp4"):
        with pytest.raises(ValueError, match=rf"{name} (cannot be decoded after frame 0|holds no frame)"):
            VideoSource(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nothing.mp4"):
        VideoSource(tmp_path / "nothing.mp4")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    with pytest.raises(ValueError, match=r"sound.wav holds no video"):
        VideoSource(tmp_path / "sound.wav")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"a.mkv needs PyAV: pip install 'segscape\[video\]'"):
        VideoSource(path)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.gif does not end in .mkv, .mov, .mp4"):
        VideoSink(tmp_path / "a.gif", (48, 64), 25)
    with pytest.raises(ValueError, match="a positive number of frames a second, not 0"):
        VideoSink(tmp_path / "a.mp4", (48, 64), 0)
    with pytest.raises(ValueError, match=r"shape \(48, 62, 3\) is not of the video's size \(48, 64\)"):
        write(tmp_path / "a.mp4", [np.zeros((48, 64, 3), np.uint8), np.zeros((48, 62, 3), np.uint8)])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from segscape.rasters.video import VideoSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (0, 30_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with VideoSink(Path(sys.argv[1]), (48, 64), 25) as sink:
            for number in range(60):
                sink.write(np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8))
    except OSError as error:
        print(error)
"""
    path = tmp_path / "a.mp4"
    answer = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == [f"{path} cannot be written: File too large."] * 2
    assert not list(tmp_path.iterdir())
