"""Frames in and out of video files."""

import io
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
from PIL import Image

from segscape.rasters.video import IncompleteVideoError, VideoSink, VideoSource
from segscape.rasters.video_size import missing_bytes

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


def pixels(source: VideoSource) -> list[np.ndarray]:
    return [frame.pixels for frame in source]


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
        read = pixels(source)
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
    assert all(is_near(a, b[:49, :63]) for a, b in zip(images, pixels(source), strict=True))


def test_frames_are_upright(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", frames())
    lying = pixels(VideoSource(path))
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30), data.index(b"tkhd"))
    # The matrix of a video to be shown turned by 90 degrees, clockwise.
    struct.pack_into(">9i", data, place, 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    source = VideoSource(path)
    assert source.size == (64, 48)
    assert all(np.array_equal(np.rot90(a, -1), b) for a, b in zip(lying, pixels(source), strict=True))


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


def encode(path: Path, times: list[int], *, codec: str = "libx264", sound: str | None = None, start: int = 0) -> Path:
    """Write noise that is shown from the given milliseconds on, by PyAV alone, and a tone as long."""
    base, rate = Fraction(1, 25 if path.suffix == ".avi" else 1000), 8000
    with av.open(path, "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = base
        track = out.add_stream(sound, rate=rate, layout="mono") if sound else None
        random = np.random.default_rng(0)
        for time in times:
            frame = av.VideoFrame.from_ndarray(random.integers(0, 256, (48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round((start + time) / 1000 / base), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        for place in range(0, (times[-1] * rate) // 1000, 1024) if track else ():
            tone = (8000 * np.sin(np.arange(place, place + 1024) * 0.3)).astype(np.int16)[None]
            part = av.AudioFrame.from_ndarray(tone, "s16", "mono")
            part.sample_rate, part.pts, part.time_base = rate, place + start * rate // 1000, Fraction(1, rate)
            out.mux(track.encode(part))
        if track:
            out.mux(track.encode(None))
    return path


def frame_times(path: Path) -> list[float]:
    with av.open(path) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def sound_packets(path: Path) -> list[tuple[float, bytes]]:
    with av.open(path) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.dts is not None]
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in packets]


def copy(source: VideoSource, path: Path) -> Path:
    with VideoSink.like(source, path) as sink:
        for frame in source:
            sink.write(frame.pixels, frame.time)
    return path


UNEVEN = [0, 40, 80, 2120, 2160, 2300]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov", "a.webm"])
def test_times_of_frames_and_sound_are_kept(tmp_path: Path, name: str, suffix: str, caplog) -> None:
    caplog.set_level("INFO", "segscape")
    codec, sound = ("libvpx-vp9", "libopus") if name == "a.webm" else ("libx264", "aac")
    path = encode(tmp_path / name, UNEVEN, codec=codec, sound=sound)
    made = copy(VideoSource(path), tmp_path / f"made{suffix}")
    # Matroska has no times before 0, where the first packet of sound begins: it moves all by as much.
    shift = frame_times(made)[0] - frame_times(path)[0]
    assert np.allclose(frame_times(made), np.array(UNEVEN) / 1000 + shift, atol=0.0011)
    if name == "a.webm" and suffix == ".mov":
        # QuickTime has no Opus.
        assert "a.webm: .mov cannot hold its sound (opus), it is left out." in caplog.messages
        return
    before, after = sound_packets(path), sound_packets(made)
    assert len(before) > 10
    assert [data for _, data in after] == [data for _, data in before]
    assert np.allclose([time for time, _ in after], np.array([time for time, _ in before]) + shift, atol=0.0011)


def test_files_that_begin_late(tmp_path: Path) -> None:
    """The parts of a longer recording keep its times; the first frame is shown at once all the same."""
    source = VideoSource(encode(tmp_path / "a.mkv", UNEVEN, sound="flac", start=5000))
    assert [round(float(frame.time), 3) for frame in source] == [time / 1000 for time in UNEVEN]
    made = copy(source, tmp_path / "b.mp4")
    assert np.allclose(frame_times(made), np.array(UNEVEN) / 1000, atol=0.0011)
    assert sound_packets(made)[0][0] == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_avi_has_an_order_and_no_times(tmp_path: Path, codec: str) -> None:
    """FFmpeg gives frames of H.264 in AVI times of presentation that go to and fro."""
    times = [40 * number for number in range(20)]
    source = VideoSource(encode(tmp_path / "a.avi", times, codec=codec, sound="pcm_s16le"))
    found = np.array([float(frame.time) for frame in source])
    assert np.allclose(np.diff(found), 0.04)
    assert found[0] <= 0.08
    assert len(sound_packets(copy(source, tmp_path / "a.mp4"))) > 5


def test_sound_that_the_format_cannot_hold_is_said(tmp_path: Path, caplog) -> None:
    times = [40 * number for number in range(20)]
    source = VideoSource(encode(tmp_path / "tape.avi", times, codec="mpeg4", sound="adpcm_ms"))
    with caplog.at_level("INFO", "segscape"):
        made = copy(source, tmp_path / "a.mp4")
    assert "tape.avi: .mp4 cannot hold its sound (adpcm_ms), it is left out." in caplog.messages
    assert len(frame_times(made)) == 20


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "a.mp4", (48, 64), 25, pixel_aspect=Fraction(16, 11)) as sink:
        sink.write(frames()[0])
    source = VideoSource(tmp_path / "a.mp4")
    assert source.pixel_aspect == Fraction(16, 11)
    assert VideoSource(copy(source, tmp_path / "b.mp4")).pixel_aspect == Fraction(16, 11)


@pytest.mark.parametrize("share", [0.3, 0.45, 0.8])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.webm", "a.avi"])
def test_a_file_that_is_cut_short(tmp_path: Path, name: str, share: float) -> None:
    """FFmpeg gives what is left, and no error."""
    codec = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(Path(name).suffix, "libx264")
    path = encode(tmp_path / name, [40 * number for number in range(30)], codec=codec)
    whole = path.read_bytes()
    intact = pixels(VideoSource(path))
    assert len(intact) == 30
    path.write_bytes(whole[: int(share * len(whole))])
    read, source = [], iter(VideoSource(path))
    with pytest.raises(IncompleteVideoError, match=r"cut short"):
        read.extend(frame.pixels for frame in source)
    assert 1 <= len(read) <= 30 * share + 3
    # All that are given are whole.
    assert all(np.array_equal(a, b) for a, b in zip(read, intact, strict=False))


def test_sizes_that_are_not_stated(tmp_path: Path) -> None:
    """Live recordings leave the size open, and recorders that were stopped leave 0: nothing is known of their end."""
    path = encode(tmp_path / "a.mkv", [40 * number for number in range(9)])
    data = bytearray(path.read_bytes())
    place = data.index(b"\x18\x53\x80\x67") + 4
    assert missing_bytes(path) == 0
    path.write_bytes(data[:-100])
    assert missing_bytes(path) == 100
    data[place : place + 8] = b"\x01" + b"\xff" * 7
    path.write_bytes(data[:-100])
    assert missing_bytes(path) == 0
    path = encode(tmp_path / "a.avi", [40 * number for number in range(9)], codec="mpeg4")
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-100])
    assert missing_bytes(path) == 100
    data[4:8] = bytes(4)
    path.write_bytes(data[:-100])
    assert missing_bytes(path) == 0
    for name, content in {
        "empty": b"",
        "text": b"no video at all, but long enough",
        "rest": b"\0\0\0\x08free\0\0\0\0mdat0123",
        "large": b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x18" + bytes(8),
        "junk": b"\0\0\0\x08free\0\1\2\3\4\5\6\7",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert missing_bytes(tmp_path / name) == 0
    (tmp_path / "large").write_bytes(b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x18")
    assert missing_bytes(tmp_path / "large") == 8


def test_frames_of_another_size_end_a_video(tmp_path: Path) -> None:
    """Streams that adapt to a network change their size; two files of one format can be joined byte by byte."""
    path = tmp_path / "a.mkv"
    with av.open(path, "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        for number, size in enumerate([(48, 64), (48, 64), (32, 32)]):
            picture = io.BytesIO()
            Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(picture, "jpeg")
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            out.mux(packet)
    source = iter(VideoSource(path))
    assert len([next(source), next(source)]) == 2
    with pytest.raises(IncompleteVideoError, match="change their size from 64 x 48 to 32 x 32 after frame 2"):
        next(source)


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
    assert len(answer.stdout.splitlines()) == 2
    assert all(line.startswith(f"{path} cannot be written: ") for line in answer.stdout.splitlines())
    assert not list(tmp_path.iterdir())
