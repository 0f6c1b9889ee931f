"""What stands on what: an object's own colours, and the backgrounds it is put on."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image
from torch.nn import functional as F

from segscape.cutout import foreground as colours
from segscape.cutout.background import as_background, background_pixels
from segscape.cutout.foreground import foreground
from tests.fake.pixels import save_pixels
from tests.fake.salient import disk_before_wall as disk


def _plain_estimate(image: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """The paper's equations in float64, means taken window by window."""

    def mean(values: np.ndarray, window: int) -> np.ndarray:
        padding = [(window // 2, window // 2)] * 2 + [(0, 0)]
        views = np.lib.stride_tricks.sliding_window_view(np.pad(values, padding, "reflect"), (window, window), (0, 1))
        return views.mean((-2, -1))

    opacity = opacity[..., None].astype(np.float64)
    front = back = image.astype(np.float64)
    for window in (9, 3):
        near = mean(front * opacity, window) / (mean(opacity, window) + 1e-5)
        back = mean(back * (1 - opacity), window) / (mean(1 - opacity, window) + 1e-5)
        front = (near + opacity * (image - opacity * near - (1 - opacity) * back)).clip(0, 255)
    return front


@pytest.mark.parametrize("rows", [7, 512])
def test_colours_are_estimated_as_in_the_paper(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few rows, whose surroundings are read beyond them, give the same as the whole."""
    monkeypatch.setattr(colours, "_WINDOWS", (9, 3))
    monkeypatch.setattr(colours, "_MOST_BLOCK_ROWS", rows)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (31, 26, 3)).astype(np.uint8)
    opacity = rng.uniform(-0.5, 1.5, (31, 26)).clip(0, 1).astype(np.float32)
    assert np.abs(foreground(image, opacity) - _plain_estimate(image, opacity)).max() < 0.51


@given(seed=st.integers(0, 1000), size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
@settings(max_examples=25)
def test_opaque_pixels_keep_their_colour(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    opacity = rng.choice([0, 0.3, 1], size).astype(np.float32)
    result = foreground(image, opacity)
    assert np.array_equal(result[opacity == 1], image[opacity == 1])
    assert not foreground(image, np.zeros(size, np.float32)).any()


def test_no_halo_of_the_old_background() -> None:
    """A blurred red disk on green, put on black: what is left of the green is a fraction of what was there."""
    inside = np.zeros((120, 120), np.float32)
    inside[30:90, 30:90] = 1
    opacity = F.avg_pool2d(torch.from_numpy(inside)[None, None], 9, 1, 4)[0, 0].numpy()
    truth, old = np.array([200.0, 20, 20]), np.array([20.0, 230, 20])
    image = np.rint(opacity[..., None] * truth + (1 - opacity[..., None]) * old).astype(np.uint8)
    edge = (opacity > 0.02) & (opacity < 0.98)
    halo = np.abs(image - truth)[edge].mean()
    assert np.abs(foreground(image, opacity) - truth)[edge].mean() < 0.15 * halo


@pytest.mark.parametrize("size", [(10, 10), (10, 30), (30, 10), (7, 5), (1, 1)])
def test_pictures_cover_and_are_cropped(size: tuple[int, int]) -> None:
    """A picture of two halves stays one whose halves meet in the middle."""
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:] = 255
    pixels = background_pixels(picture, size)
    assert pixels.shape == (*size, 3)
    columns = pixels[..., 0].astype(int)
    assert (columns == columns[0]).all()
    assert np.abs(columns[0] + columns[0, ::-1] - 255).max() <= 1
    if size[1] > 5:
        assert (columns[0, 0], columns[0, -1]) == (0, 255)


def test_pictures_keep_their_aspect() -> None:
    """Of a picture twice as wide as it is high a square shows the middle half."""
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    assert np.array_equal(background_pixels(ramp, (100, 100)), ramp[:, 50:150])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wite", "wite is neither a colour, such as white or #ff8800, nor a picture's file"),
        ("nowhere/beach.jpg", "beach.jpg is neither a colour"),
        ("#ff000080", "#ff000080 is no opaque colour"),
        ("rgb(300,0,0)", "is no opaque colour; that has red, green and blue, each from 0 to 255"),
        ((1, 2, 300), "is no opaque colour"),
        (np.zeros((3, 3), np.uint8), r"An image is an array \(H, W, 3\)"),
    ],
)
def test_bad_backgrounds(text, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_background(text)


def test_good_backgrounds(tmp_path: Path) -> None:
    assert as_background("RebeccaPurple") == (102, 51, 153)
    assert as_background("#f80") == as_background("hsl(32,100%,50%)") == (255, 136, 0)
    path = tmp_path / "beach.png"
    save_pixels(path, disk())
    for picture in (str(path), path, Image.open(path), disk()):
        assert np.array_equal(as_background(picture), disk())
