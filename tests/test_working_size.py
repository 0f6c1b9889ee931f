"""The size at which a network sees photographs and videos: there, and back to their own size."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from PIL import Image
from torch.nn import functional as F

import segscape
from segscape.checkpoints.store import write_weights
from segscape.cli.main import main
from segscape.geometry.window import Window
from segscape.normalisation import Normalisation
from segscape.rasters.resize import read_smoothly, resize_smoothly, working_size_of
from segscape.rasters.video import VideoSink, VideoSource
from segscape.scenes.files import SceneFiles
from segscape.scenes.scene import Scene, SceneSettings
from segscape.segmentation.padding import pad_to_fit
from segscape.segmentation.upsampling.argmax import Upsampling
from tests.fake.network import Coarse, card, noise

WEIGHTS = "scapenet_lite0.aerial"


def same(found: np.ndarray, expected: np.ndarray, *, but: float = 0.002) -> bool:
    """Whether label maps agree, but where 8-bit rounding decides."""
    return found.shape == expected.shape and (found != expected).mean() <= but


# Sizes


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 2000))
def test_the_shorter_side_becomes_what_is_asked_for(height: int, width: int, side: int) -> None:
    made = working_size_of((height, width), side)
    assert made[::-1] == working_size_of((width, height), side)
    short, long = sorted((height, width))
    if short < side and long * side > 16 * side * short:
        # So long an image is enlarged as little as it takes, and never made smaller.
        assert max(made) <= max(16 * side, long)
        assert made[0] >= height
        assert made[1] >= width
    else:
        assert min(made) == side
        assert abs(max(made) - long * side / short) <= 0.5


def test_a_line_of_pixels_does_not_become_gigabytes() -> None:
    assert working_size_of((1, 4000), 480) == (2, 7680)
    assert working_size_of((9000, 1), 480) == (9000, 1)
    assert working_size_of((2000, 60_000), 480) == (480, 14_400)


def test_images_are_reduced_by_means_and_enlarged_bilinearly() -> None:
    image = noise(60, 90)
    means = image.reshape(20, 3, 30, 3, 3).mean((1, 3))
    assert np.abs(resize_smoothly(image, (20, 30)) - means).max() <= 0.5
    boxes = np.asarray(Image.fromarray(image).resize((37, 25), Image.Resampling.BOX))
    assert np.abs(resize_smoothly(image, (25, 37)).astype(int) - boxes).max() <= 60
    larger = F.interpolate(torch.from_numpy(image).permute(2, 0, 1)[None].double(), (133, 200), mode="bilinear")
    assert np.abs(resize_smoothly(image, (133, 200)) - larger[0].permute(1, 2, 0).numpy()).max() <= 1
    assert resize_smoothly(image, (60, 90)) is image


@settings(max_examples=60, deadline=None)
@given(data=st.data(), source=st.tuples(st.integers(1, 60), st.integers(1, 60)), factor=st.floats(0.05, 4))
def test_windows_are_parts_of_the_whole(data, source: tuple[int, int], factor: float) -> None:
    image = noise(source[0] + 5, source[1] + 9)
    place = Window(3, 4, *source)
    size = tuple(max(round(side * factor), 1) for side in source)
    row, col = (data.draw(st.integers(0, side - 1)) for side in size)
    window = Window(row, col, data.draw(st.integers(1, size[0] - row)), data.draw(st.integers(1, size[1] - col)))

    def read(part: Window) -> np.ndarray:
        # Nothing beside the rectangle counts.
        assert part.intersection(place) == part
        return image[part.slices]

    whole = read_smoothly(read, place, size, Window(0, 0, *size))
    assert np.array_equal(read_smoothly(read, place, size, window), whole[window.slices])
    expected = resize_smoothly(image[place.slices].copy(), size)
    assert np.abs(whole.astype(int) - expected).max() <= any(s % m for s, m in zip(source, size, strict=True))


def test_little_is_held_of_a_large_image(monkeypatch: pytest.MonkeyPatch) -> None:
    image, held = noise(700, 500), []

    def read(window: Window) -> np.ndarray:
        held.append(window.height * window.width)
        return image[window.slices]

    whole = read_smoothly(read, Window(0, 0, 700, 500), (70, 50), Window(0, 0, 70, 50))
    monkeypatch.setattr("segscape.rasters.resize._MOST_STRIP_PIXELS", 20_000)
    held.clear()
    assert np.array_equal(read_smoothly(read, Window(0, 0, 700, 500), (70, 50), Window(0, 0, 70, 50)), whole)
    assert max(held) <= 20_000 + 2 * 500
    assert sum(held) <= 1.1 * 700 * 500


# From logits to the image's own size


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_padding_lies_outside(factor: int) -> None:
    """Where the own size is a multiple of the working size, that is the upper left of an ordinary resize."""
    logits = torch.randn(3, 8, 12, generator=torch.Generator().manual_seed(0))
    own = 50 * factor, 77 * factor
    upsampling = Upsampling.of_padded((8, 12), padded=(64, 96), image=(50, 77), size=own, align_corners=False)
    full = F.interpolate(logits[None], (64 * factor, 96 * factor), mode="bilinear")[0, :, : own[0], : own[1]]
    torch.testing.assert_close(upsampling.scores(logits), full, rtol=0, atol=1e-5)
    assert (upsampling.argmax(logits) != full.argmax(0)).float().mean() < 1e-3


@pytest.mark.parametrize("own", [(99, 200), (1, 30), (31, 1)])
def test_padding_lies_outside_with_aligned_corners(own: tuple[int, int]) -> None:
    logits = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(1))
    upsampling = Upsampling.of_padded((8, 12), padded=(64, 96), image=(50, 77), size=own, align_corners=True)
    # Corner pixels of the image lie at its 0 and 49, 76; those of the padded one, at 63 and 95, on the map's corners.
    rows, cols = (
        np.linspace(0, (image - 1) * (lines - 1) / (padded - 1), side) if side > 1 else np.zeros(1)
        for side, image, lines, padded in zip(own, (50, 77), (8, 12), (64, 96), strict=True)
    )
    expected = np.stack([_bilinear(plane, rows, cols) for plane in logits.double().numpy()])
    assert np.abs(upsampling.scores(logits).numpy() - expected).max() < 1e-5


def _bilinear(plane: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    down = np.stack([np.interp(rows, np.arange(len(plane)), column) for column in plane.T], axis=1)
    return np.stack([np.interp(cols, np.arange(plane.shape[1]), line) for line in down])


SIZES = [(101, 150), (64, 64), (300, 37), (480, 641), (5, 7), (1, 1), (1, 400), (700, 3)]


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_logits_go_straight_to_the_own_size(size: tuple[int, int], align_corners: bool) -> None:
    network, image = Coarse(align_corners=align_corners), noise(*size)
    segmenter = segscape.Segmenter(network, card(working_size=90), device="cpu")
    result = segmenter.segment(image)
    small = torch.from_numpy(resize_smoothly(image, working_size_of(size, 90))).permute(2, 0, 1)[None]
    logits = segmenter.deployed(Normalisation()(small))
    full = F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)[0]
    assert result.labels.shape == size
    assert result.image is image
    chosen = full.gather(0, torch.from_numpy(result.labels).long()[None])[0]
    assert float((full.amax(0) - chosen).max()) < 1e-4


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("multiple", [32, 64])
@torch.inference_mode()
def test_networks_that_need_padding(multiple: int, align_corners: bool) -> None:
    """The own size is three times the working size, so an independent resize to a multiple of the padded one does."""
    network = Coarse(align_corners=align_corners, size_multiple=multiple)
    image = noise(210, 300)
    segmenter = segscape.Segmenter(network, card(working_size=70), device="cpu")
    small = torch.from_numpy(resize_smoothly(image, (70, 100))).permute(2, 0, 1)[None]
    padded = pad_to_fit(network, Normalisation()(small))
    assert padded.shape[2:] != small.shape[2:]
    logits = segmenter.deployed(padded)[0].double().numpy()
    axes = []
    for side, inner, outer, lines in zip((210, 300), (70, 100), padded.shape[2:], logits.shape[1:], strict=True):
        if align_corners:
            axes.append(np.linspace(0, inner - 1, side) * (lines - 1) / (outer - 1))
        else:
            axes.append(((np.arange(side) + 0.5) * inner / side / outer * lines - 0.5).clip(0))
    full = np.stack([_bilinear(plane, *axes) for plane in logits])
    labels = segmenter.segment(image).labels
    assert np.abs(full.max(0) - np.take_along_axis(full, labels[None].astype(int), 0)[0]).max() < 1e-4


def test_what_is_asked_for_goes_before_the_card() -> None:
    network, image, stated = Coarse(), noise(120, 160), card(working_size=64, working_resolution=(0.1, 0.2))
    plain = segscape.Segmenter(network, card(), device="cpu").segment(image).labels
    of_card = segscape.Segmenter(network, stated, device="cpu").segment(image).labels
    off = segscape.Segmenter(network, stated, device="cpu", working_size=None)
    assert np.array_equal(off.segment(image).labels, plain)
    assert (off.card.working_size, off.card.working_resolution) == (None, None)
    other = segscape.Segmenter(network, stated, device="cpu", working_size=30)
    assert other.card == replace(stated, working_size=30)
    found = other.segment(image).labels
    assert not np.array_equal(of_card, plain)
    assert not np.array_equal(found, of_card)
    assert np.array_equal(
        segscape.Segmenter(network, card(working_size=120), device="cpu").segment(image).labels, plain
    )


@pytest.mark.parametrize("size", [0, -3, 2.5, "large"])
def test_sizes_that_are_none(size) -> None:
    with pytest.raises(ValueError, match="whole number of pixels from 1 on"):
        segscape.Segmenter(Coarse(), card(), device="cpu", working_size=size)


# Photographs that run as scenes


@pytest.mark.parametrize("size", [120, 300])
@pytest.mark.parametrize("mode", ["whole", "streaming"])
def test_photographs_that_run_as_scenes(size: int, mode: str, tmp_path: Path, monkeypatch) -> None:
    """At once and streamed, the same labels, and probabilities of the own size."""
    monkeypatch.setattr("segscape.scenes.scene.resident", lambda: 0)
    monkeypatch.setattr("segscape.rasters.resize._MOST_STRIP_PIXELS", 5000)
    segmenter = segscape.Segmenter(Coarse(size_multiple=16), card(working_size=size), device="cpu")
    image = noise(180, 241)
    Image.fromarray(image).save(tmp_path / "photo.png")
    files = SceneFiles(tmp_path / "labels.png", tmp_path / "sure.png", tmp_path / "scores.tif")
    memory = 4 << 30 if mode == "whole" else 20 * size * size
    with Scene(segmenter, tmp_path / "photo.png", files, SceneSettings(memory, context="scene")) as scene:
        assert scene.plan.mode == mode
        assert scene.sight.size == (size, working_size_of((180, 241), size)[1])
        scene.run(on_progress=lambda share: None)
    labels, sure = (np.asarray(Image.open(path)) for path in (files.labels, files.confidence))
    assert same(labels, segmenter.segment(image).labels)
    with rasterio.open(files.scores) as made:
        scores = made.read()
    assert np.array_equal(scores.max(0), sure)
    assert (np.take_along_axis(scores, labels[None].astype(int), 0)[0] == sure).all()


def test_scales_are_of_the_working_size(tmp_path: Path) -> None:
    """A large photograph is seen as its small form is, with scales and mirror images too."""
    from segscape.scenes.views import views

    image, scores = noise(240, 320), []
    for name, pixels in (("own", image), ("small", resize_smoothly(image, (80, 107)))):
        segmenter = segscape.Segmenter(Coarse(), card(working_size=80), device="cpu")
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        files = SceneFiles(tmp_path / f"{name}_labels.png", scores=tmp_path / f"{name}.tif")
        how = SceneSettings(4 << 30, context="scene", views=views([0.75, 1.25], flip=True))
        with Scene(segmenter, tmp_path / f"{name}.png", files, how) as scene:
            scene.run(on_progress=lambda share: None)
        with rasterio.open(files.scores) as made:
            scores.append(np.stack([resize_smoothly(band[..., None].repeat(3, 2), (80, 107)) for band in made.read()]))
    assert np.abs(scores[0].astype(int) - scores[1]).mean() < 1


# On the command line


@pytest.fixture
def weights_with(tmp_path: Path, monkeypatch) -> Callable[..., Path]:
    """Writes weights of the least network, with a card that states something."""
    monkeypatch.setattr("segscape.segmentation.segmenter.create_model", lambda *_, **__: Coarse())

    def write(**stated) -> Path:
        write_weights(tmp_path / "weights.safetensors", card(**stated), Coarse().state_dict())
        return tmp_path / "weights.safetensors"

    return write


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(noise(96, 130)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def segment(weights: str | Path, *words: object) -> int:
    return main(["segment", *map(str, words), "--weights", str(weights), "--device", "cpu"])


def labels_by(weights: Path, photo: Path, **how) -> np.ndarray:
    return segscape.Segmenter.from_weights(weights, device="cpu", **how).segment(photo).labels


def test_a_run_says_once_at_what_size_it_sees(weights_with, photo: Path, tmp_path: Path, capsys) -> None:
    Image.fromarray(noise(50, 80)).save(tmp_path / "other.jpg")
    with VideoSink(tmp_path / "drive.mp4", (64, 96), 10) as sink:
        for _ in range(2):
            sink.write(noise(64, 96))
    weights, out = weights_with(working_size=72), tmp_path / "out"
    inputs = (photo, tmp_path / "other.jpg", tmp_path / "drive.mp4")
    assert segment(weights, *inputs, "--output", out, "--overlay") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("seen at") == 1
    assert "photo.png and 2 more: seen at the working size, a shorter side of 72 pixels" in printed
    assert np.array_equal(np.asarray(Image.open(out / "photo.png")), labels_by(weights, photo))
    assert Image.open(out / "other.png").size == (80, 50)
    assert Image.open(out / "photo_overlay.jpg").size == (130, 96)
    segmenter = segscape.Segmenter.from_weights(weights, device="cpu")
    shown = next(iter(VideoSource(out / "drive.mp4"))).pixels
    expected = segmenter.segment(next(iter(VideoSource(tmp_path / "drive.mp4"))).pixels).labels
    assert shown.shape == (64, 96, 3)
    assert np.abs(shown.astype(int) - np.array(segmenter.card.palette)[expected]).mean() < 12


@pytest.mark.parametrize("words", [["--full-size"], ["--working-size", "120"]])
def test_options(words: list[str], weights_with, photo: Path, tmp_path: Path, capsys) -> None:
    weights = weights_with(working_size=72)
    assert segment(weights, photo, "--output", tmp_path / "out", *words) == 0
    size = int(words[1]) if len(words) > 1 else None
    made = np.asarray(Image.open(tmp_path / "out" / "photo.png"))
    assert np.array_equal(made, labels_by(weights, photo, working_size=size))
    assert ("seen at" in capsys.readouterr().out) == (size is not None)


def test_without_a_stated_size_nothing_changes(weights_with, photo: Path, tmp_path: Path, capsys) -> None:
    assert segment(weights_with(), photo, "--output", tmp_path / "out") == 0
    assert "seen at" not in capsys.readouterr().out
    images = Normalisation()(torch.from_numpy(noise(96, 130)).permute(2, 0, 1)[None])
    with torch.inference_mode():
        full = F.interpolate(Coarse()(images), (96, 130), mode="bilinear")[0]
    assert same(np.asarray(Image.open(tmp_path / "out" / "photo.png")), full.argmax(0).numpy(), but=1e-3)


@pytest.mark.parametrize("words", [["--confidence"], []])
def test_photographs_too_large_or_with_more_to_write(words, weights_with, photo: Path, tmp_path, monkeypatch) -> None:
    sizes = []

    def never(network, size, **_) -> bool:
        sizes.append(size)
        return False

    monkeypatch.setattr("segscape.cli.commands.segment.fits_at_once", never)
    weights = weights_with(working_size=64)
    assert segment(weights, photo, "--output", tmp_path / "out", *words) == 0
    assert sizes == ([] if words else [(64, 87)])
    assert same(np.asarray(Image.open(tmp_path / "out" / "photo.png")), labels_by(weights, photo))


@pytest.mark.parametrize("size", [(1, 4000), (4000, 2), (3, 5)])
def test_strange_shapes(size: tuple[int, int], weights_with, tmp_path: Path) -> None:
    Image.fromarray(noise(*size)).save(tmp_path / "line.png")
    out = tmp_path / "out"
    assert segment(weights_with(working_size=40), tmp_path / "line.png", "--output", out) == 0
    assert Image.open(out / "line.png").size == size[::-1]


@pytest.mark.parametrize("value", ["0", "-3", "480.5", "large"])
def test_bad_values(value: str, photo: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        segment(WEIGHTS, photo, "--output", tmp_path / "out", "--working-size", value)
    assert f"{value} is no number of pixels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_that_make_no_sense(photo: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert segment(WEIGHTS, photo, "--output", out, "--full-size", "--working-size", "90") == 1
    assert "--full-size and --working-size contradict each other" in capsys.readouterr().err
    assert segment(WEIGHTS, tmp_path / "scene.tif", "--output", out, "--working-size", "90") == 1
    assert "--working-size is for photographs and videos, and there are none" in capsys.readouterr().err
    assert not out.exists()
