"""Augmentation beside OpenCV, Pillow and literal versions of the official steps."""

from dataclasses import replace
from pathlib import Path

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image, ImageEnhance
from torchvision import tv_tensors

from segscape.data.datasets import CamVid
from segscape.data.stream import SampleStream, StreamSource
from segscape.data.transforms import CameraAugmentation, MmsegAugmentation, Rotation, StdcAugmentation
from segscape.data.transforms.base import RandomFlip, integer
from segscape.data.transforms.geometry import PadToSize, RandomCropByClass, RandomResize, RandomRotate
from segscape.data.transforms.photometric import PhotometricDistortion
from segscape.data.transforms.stdc import ColourJitter, RandomScale, resize_sample
from segscape.labels import CAMVID
from segscape.rasters.resize import kept_ratio_size, resize_indices

UNCHANGED = {"brightness": None, "contrast": None, "contrast_last": False, "saturation": None, "hue": None}

LIP_LIKE = MmsegAugmentation(
    crop=(40, 40),
    base=(44, 44),
    ratios=(0.75, 1.25),
    keep_ratio=False,
    rotation=Rotation((-30, 30), probability=0.6, whole_degrees=True, interpolation="bicubic"),
    padded="centre",
)
ISDNET_LIKE = MmsegAugmentation(crop=(48, 48), base=(90, 120), ratios=(1.0, 1.0), rotation=Rotation((90, 270)))
DABNET_LIKE = MmsegAugmentation(crop=(64, 64), base=(90, 120))


@pytest.fixture(scope="module")
def frame(camvid_examples: Path) -> dict:
    return CamVid(camvid_examples, "val")[1]


def _pixels(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def _sample(values: torch.Tensor) -> dict:
    """An image whose three channels are its mask."""
    image = tv_tensors.Image(values.expand(3, -1, -1).clone())
    return {"image": image, "mask": tv_tensors.Mask(values.clone()), "name": "a"}


@given(size=st.tuples(st.integers(1, 90), st.integers(1, 90)), out=st.tuples(st.integers(1, 90), st.integers(1, 90)))
@settings(max_examples=50, deadline=None)
def test_masks_take_the_pixel_under_the_centre(size: tuple[int, int], out: tuple[int, int]) -> None:
    mask = torch.arange(size[0] * size[1], dtype=torch.int32).reshape(size)
    ours = resize_sample(tv_tensors.Mask(mask), out)
    for axis in (0, 1):
        # Twice the distance, in output pixels: whole numbers, so that ties are exact.
        centre = (2 * torch.arange(out[axis]) + 1) * size[axis]
        taken = (ours[:, 0] // size[1]) if axis == 0 else (ours[0] % size[1])
        assert ((centre - (2 * taken + 1) * out[axis]).abs() <= out[axis]).all()


def test_resizing_equals_pillow(frame: dict) -> None:
    for size in ((45, 60), (270, 360), (450, 601)):
        image = Image.fromarray(_pixels(frame["image"])).resize(size[::-1], Image.Resampling.BILINEAR)
        ours = _pixels(resize_sample(frame["image"], size))
        assert np.abs(ours.astype(int) - np.asarray(image)).max() <= 1


def test_colour_jitter_equals_pillow(frame: dict) -> None:
    params = {"brightness": 1.3, "contrast": 0.7, "saturation": 1.4}
    ours = _pixels(ColourJitter(0.5).transform(frame["image"], params))
    pillow = Image.fromarray(_pixels(frame["image"]))
    for name, enhancer in (("brightness", "Brightness"), ("contrast", "Contrast"), ("saturation", "Color")):
        pillow = getattr(ImageEnhance, enhancer)(pillow).enhance(params[name])
    assert np.abs(ours.astype(int) - np.asarray(pillow)).mean() < 1


@given(
    height=st.integers(16, 70),
    width=st.integers(16, 70),
    crop=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    scale=st.sampled_from([0.125, 0.5, 1.0, 1.5]),
)
@settings(max_examples=60, deadline=None)
def test_crops_have_their_size_and_keep_image_and_mask_together(height, width, crop, scale) -> None:
    # The mask is the image's red channel, so nearest and bilinear agree wherever nothing is scaled.
    sample = _sample(torch.randint(0, 255, (height, width), dtype=torch.uint8))
    out = StdcAugmentation(crop=crop, scales=(scale,), colour=0.0).build(CAMVID)(sample)
    assert out["image"].shape == (3, *crop)
    assert out["mask"].shape == crop
    if scale == 1.0 and height >= crop[0] and width >= crop[1]:
        assert torch.equal(out["image"][0], out["mask"])


def test_scale_rounds_down() -> None:
    sample = tv_tensors.Image(torch.zeros(3, 45, 67, dtype=torch.uint8))
    assert RandomScale([0.125])(sample).shape == (3, 5, 8)


@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    base=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
)
def test_kept_ratio_fits_into_the_base(size: tuple[int, int], base: tuple[int, int]) -> None:
    height, width = kept_ratio_size(size, base)
    assert max(height, width) <= max(base)
    assert min(height, width) <= min(base)
    # One side is reached, in the image's own aspect up to half a pixel.
    assert max(height, width) == max(base) or min(height, width) == min(base)
    assert abs(height * size[1] - width * size[0]) <= sum(size) / 2 + 1 or min(height, width) == 1


def test_resize_targets() -> None:
    def sizes(transform: RandomResize, height: int, width: int, ratio: float) -> tuple[int, int]:
        transform.ratios = ratio, ratio
        return transform.make_params([tv_tensors.Mask(torch.zeros(height, width, dtype=torch.uint8))])["size"]

    cityscapes = RandomResize((1024, 2048), (0.5, 2.0), keep_ratio=True)
    assert sizes(cityscapes, 1024, 2048, 0.777) == (795, 1590)  # targets 795 and 1591; 0.7763671875 x 2048 = 1590
    scenes = RandomResize((512, 2048), (0.5, 2.0), keep_ratio=True)
    assert sizes(scenes, 683, 512, 1.0) == (683, 512)
    assert sizes(scenes, 200, 2000, 1.0) == (205, 2048)
    people = RandomResize((520, 520), (0.75, 1.25), keep_ratio=False)
    assert sizes(people, 600, 300, 0.9) == (468, 468)
    assert sizes(RandomResize((100, 300), (1, 1), keep_ratio=False), 60, 30, 1.0) == (300, 100)


def test_resizing_equals_opencv(frame: dict) -> None:
    out = RandomResize((250, 333), (1.0, 1.0), keep_ratio=False)(frame)
    assert np.array_equal(_pixels(out["image"]), cv2.resize(_pixels(frame["image"]), (333, 250)))
    rows, columns = np.arange(250) * 360 // 250, np.arange(333) * 480 // 333
    assert np.array_equal(out["mask"].numpy(), frame["mask"].numpy()[rows[:, None], columns])
    assert resize_indices(frame["mask"].numpy(), (360, 480)) is not None


def test_crop_avoids_one_class() -> None:
    # Only windows that reach over the border at column 60 hold two classes, and few of them hold enough of each.
    labels = torch.zeros(40, 120, dtype=torch.uint8)
    labels[:, 60:] = 1
    crop = RandomCropByClass((40, 40), draws=10)
    shares = []
    for seed in range(40):
        torch.manual_seed(seed)
        window = crop(_sample(labels))["mask"]
        shares.append(float((window == 0).float().mean()))
    good = [0.25 < share < 0.75 for share in shares]
    # A draw will do with probability 19 / 81: ten fail with probability 0.07, where one alone does with 0.77.
    assert sum(good) > 30


@pytest.mark.parametrize("draws", [10, 11])
def test_the_last_crop_is_taken_as_it_is(draws: int) -> None:
    """Of an image of one class no crop will do."""
    sample = _sample(torch.zeros(200, 300, dtype=torch.uint8))
    sample["image"] = tv_tensors.Image(torch.arange(300, dtype=torch.float32).repeat(3, 200, 1))
    torch.manual_seed(4)
    places = [(integer(0, 161), integer(0, 261)) for _ in range(draws)]
    torch.manual_seed(4)
    assert RandomCropByClass((40, 40), draws)(sample)["image"][0, 0, 0] == places[-1][1]


def test_crop_without_labels_keeps_its_size() -> None:
    sample = _sample(torch.full((60, 70), 255, dtype=torch.uint8))
    out = RandomCropByClass((40, 90), draws=10)(sample)
    assert out["mask"].shape == (40, 70)
    assert out["image"].shape == (3, 40, 70)


def test_flip_exchanges_left_and_right() -> None:
    labels = torch.tensor([[14, 15, 0], [17, 255, 16]], dtype=torch.uint8)
    out = RandomFlip(1.0, [(14, 15), (16, 17)])(_sample(labels))
    assert out["mask"].tolist() == [[0, 14, 15], [17, 255, 16]]
    assert out["image"][0].tolist() == [[0, 15, 14], [16, 255, 17]]


@pytest.mark.parametrize("degrees", [90.0, 180.0, 270.0])
def test_rotation_by_right_angles_is_exact(degrees: float) -> None:
    labels = torch.randint(0, 19, (41, 41), dtype=torch.uint8)
    torch.manual_seed(0)
    rotate = RandomRotate(Rotation((degrees, degrees), probability=1.0))
    out = rotate(_sample(labels))
    expected = np.rot90(labels.numpy(), int(degrees) // 90)
    assert np.array_equal(out["mask"].numpy(), expected)
    assert np.array_equal(out["image"][1].numpy(), expected)


def test_rotated_corners_are_black_and_unlabelled(frame: dict) -> None:
    rotation = Rotation((45, 45), probability=1.0)
    for interpolation in ("bilinear", "bicubic"):
        out = RandomRotate(replace(rotation, interpolation=interpolation))(frame)
        for row in (0, -1):
            for column in (0, -1):
                assert out["image"][:, row, column].tolist() == [0, 0, 0]
                assert out["mask"][row, column] == 255
        assert out["mask"].shape == frame["mask"].shape
        assert set(out["mask"].unique().tolist()) <= {*frame["mask"].unique().tolist(), 255}


def test_whole_degrees() -> None:
    rotate = RandomRotate(Rotation((-30, 30), probability=0.6, whole_degrees=True))
    mask = tv_tensors.Mask(torch.zeros(9, 9, dtype=torch.uint8))
    drawn = [rotate.make_params([mask])["matrix"] for _ in range(300)]
    angles = [np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])) for matrix in drawn if matrix is not None]
    assert 0.5 < len(angles) / 300 < 0.7
    assert np.allclose(angles, np.round(angles))
    assert -30 <= min(angles) < -20
    assert 20 < max(angles) <= 29.5


def _convert(pixels: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
    """An official photometric step: float32, clipped, truncated."""
    return np.clip(pixels.astype(np.float32) * np.float32(alpha) + np.float32(beta), 0, 255).astype(np.uint8)


def _official(rgb: np.ndarray, params: dict, to_hsv: int, from_hsv: int) -> np.ndarray:
    """The official steps on BGR pixels, written out, with either pair of HSV conversions."""
    bgr = rgb[..., ::-1].copy()
    if params["brightness"] is not None:
        bgr = _convert(bgr, beta=params["brightness"])
    if params["contrast"] is not None and not params["contrast_last"]:
        bgr = _convert(bgr, params["contrast"])
    if params["saturation"] is not None:
        hsv = cv2.cvtColor(bgr, to_hsv)
        hsv[..., 1] = _convert(hsv[..., 1], params["saturation"])
        bgr = cv2.cvtColor(hsv, from_hsv)
    if params["hue"] is not None:
        hsv = cv2.cvtColor(bgr, to_hsv)
        hsv[..., 0] = (hsv[..., 0].astype(int) + params["hue"]) % 180
        bgr = cv2.cvtColor(hsv, from_hsv)
    if params["contrast"] is not None and params["contrast_last"]:
        bgr = _convert(bgr, params["contrast"])
    return bgr[..., ::-1]


PHOTOMETRIC = [
    {"brightness": -20.7},
    {"brightness": 31.2, "contrast": 1.43},
    {"contrast": 0.61, "contrast_last": True, "saturation": 1.31},
    {"saturation": 0.52, "hue": -18},
    {"brightness": 8.4, "contrast": 1.2, "contrast_last": True, "saturation": 1.49, "hue": 17},
]


@pytest.mark.parametrize("changes", PHOTOMETRIC)
def test_distortion_equals_the_official_steps(frame: dict, changes: dict) -> None:
    params = UNCHANGED | changes
    ours = _pixels(PhotometricDistortion().transform(frame["image"], params))
    official = _official(_pixels(frame["image"]), params, cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR)
    assert np.array_equal(ours, official)


@pytest.mark.parametrize("changes", PHOTOMETRIC)
def test_rgb_conversions_of_bgr_pixels_mirror_the_hue(frame: dict, changes: dict) -> None:
    params = UNCHANGED | changes
    hue = params["hue"] and -params["hue"]
    ours = _pixels(PhotometricDistortion().transform(frame["image"], params | {"hue": hue})).astype(int)
    other = _official(_pixels(frame["image"]), params, cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB)
    # The same but for hues rounded to the other side, two degrees apart.
    assert np.abs(ours - other).mean() < 0.5
    assert np.abs(ours - other).max() <= 10


def test_distortion_draws_each_step_half_of_the_time() -> None:
    torch.manual_seed(0)
    drawn = [PhotometricDistortion().make_params([]) for _ in range(400)]
    for name, low, high in (
        ("brightness", -32, 32),
        ("contrast", 0.5, 1.5),
        ("saturation", 0.5, 1.5),
        ("hue", -18, 17),
    ):
        values = [params[name] for params in drawn if params[name] is not None]
        assert 0.4 < len(values) / 400 < 0.6
        assert low <= min(values)
        assert max(values) <= high
        assert max(values) - min(values) > 0.9 * (high - low)


@pytest.mark.parametrize(("place", "top", "left"), [("corner", 0, 0), ("centre", 2, 3)])
def test_padding(place: str, top: int, left: int) -> None:
    labels = torch.randint(0, 19, (5, 8), dtype=torch.uint8)
    out = PadToSize((10, 15), place)(_sample(labels))
    inside = np.s_[top : top + 5, left : left + 8]
    expected = np.full((10, 15), 255, np.uint8)
    expected[inside] = labels
    assert np.array_equal(out["mask"].numpy(), expected)
    for channel, mean in enumerate((0.485, 0.456, 0.406)):
        expected = np.full((10, 15), round(255 * mean), np.uint8)
        expected[inside] = labels
        assert np.array_equal(out["image"][channel].numpy(), expected)


def test_padding_is_nearly_zero_when_normalised() -> None:
    from segscape.normalisation import Normalisation

    sample = _sample(torch.zeros(1, 1, dtype=torch.uint8))
    padded = PadToSize((3, 3), "corner")(sample)["image"]
    assert Normalisation()(padded[None])[0, :, 2, 2].abs().max() < 0.009


@given(
    size=st.tuples(st.integers(8, 80), st.integers(8, 80)),
    crop=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_every_size_is_cropped_and_padded(size: tuple[int, int], crop: tuple[int, int], seed: int) -> None:
    torch.manual_seed(seed)
    sample = _sample(torch.randint(0, 19, size, dtype=torch.uint8))
    before = sample["image"].clone()
    for family in (LIP_LIKE, ISDNET_LIKE, DABNET_LIKE):
        out = replace(family, crop=crop).build(CAMVID)(sample)
        assert out["image"].shape == (3, *crop)
        assert out["mask"].shape == crop
        assert out["image"].dtype == out["mask"].dtype == torch.uint8
    # A data set kept in memory hands out the same tensors again.
    assert torch.equal(sample["image"], before)


def test_image_and_mask_stay_together(frame: dict) -> None:
    """The geometry alone: of an image that is its own mask, both go the same way."""
    for seed in range(10):
        torch.manual_seed(seed)
        sample = _sample(frame["mask"])
        for step in replace(ISDNET_LIKE, base=(360, 480)).build(CAMVID).transforms:
            if not isinstance(step, (PhotometricDistortion, RandomRotate)):
                sample = step(sample)
        assert torch.equal(sample["image"][0], sample["mask"])


@pytest.mark.parametrize(
    "family", [LIP_LIKE, ISDNET_LIKE, DABNET_LIKE, StdcAugmentation(crop=(32, 48)), CameraAugmentation(crop=(32, 48))]
)
def test_stream_is_a_function_of_the_position(camvid_root: Path, family) -> None:
    source = StreamSource(CamVid(camvid_root, "train"), family.build(CAMVID))
    streams = [SampleStream([source], seed=3) for _ in range(2)]
    torch.manual_seed(1)
    expected = [streams[0][position] for position in range(7)]
    torch.manual_seed(2)
    for position in (6, 2, 0):
        again = streams[1][position]
        assert torch.equal(again["image"], expected[position]["image"])
        assert torch.equal(again["mask"], expected[position]["mask"])
    assert not torch.equal(expected[0]["image"], expected[1]["image"])
