"""Coarse masks: distributed as the official ones, and the properties of each step."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segscape.data.refinement.perturbation import change_regions, perturb, simplify_contours
from tests.fake.refinement import disk


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    return float(((first > 127) & (second > 127)).sum() / ((first > 127) | (second > 127)).sum())


def _circles(side: int) -> np.ndarray:
    rows, columns = np.ogrid[:side, :side]
    inside = (rows - side // 2) ** 2 + (columns - side // 2) ** 2 < (side // 3) ** 2
    return np.where(inside, 255, 0).astype(np.uint8)


def _waves(side: int) -> np.ndarray:
    y, x = (np.arange(side)[:, None] + 0.5) / side, (np.arange(side)[None] + 0.5) / side
    turn = 2 * np.pi
    heights = np.sin(turn * 1.5 * x + 0.7) + np.cos(turn * 1.2 * y - 0.3) + 0.35 * np.sin(turn * (3 * x + 2 * y))
    return np.where(heights > 0.2, 255, 0).astype(np.uint8)


# Mean and standard deviation of the IoU over 60 draws of the official perturbation, 224 x 224.
OFFICIAL = [
    (_circles, 0.80, 0.7878, 0.0198),
    (_circles, 0.90, 0.8827, 0.0260),
    (_circles, 0.98, 0.9418, 0.0251),
    (_waves, 0.80, 0.7450, 0.0233),
    (_waves, 0.90, 0.8261, 0.0205),
    (_waves, 0.98, 0.8797, 0.0233),
]


@pytest.mark.parametrize(("shape", "target", "mean", "deviation"), OFFICIAL)
def test_perturbation_is_distributed_as_the_official_one(
    shape: Callable[[int], np.ndarray], target: float, mean: float, deviation: float
) -> None:
    mask, generator = shape(224), np.random.default_rng(0)
    ious = [_iou(perturb(mask, generator=generator, iou_target=target), mask) for _ in range(200)]
    assert np.mean(ious) == pytest.approx(mean, abs=0.01)
    assert np.std(ious) == pytest.approx(deviation, abs=0.01)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 2**32),
    st.floats(0.5, 1.0),
    st.sampled_from([0.0, 0.02, 0.6, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_perturbation_of_any_mask(size: tuple[int, int], seed: int, target: float, share: float) -> None:
    noise = np.random.default_rng(seed).random(size) < share
    mask = cv2.dilate(np.where(noise, 255, 0).astype(np.uint8), np.ones((3, 3), np.uint8)).reshape(size)
    before = mask.copy()
    coarse = perturb(mask, generator=np.random.default_rng(seed), iou_target=target)
    assert np.array_equal(mask, before)
    assert (coarse.shape, coarse.dtype) == (mask.shape, np.uint8)
    assert set(np.unique(coarse)) <= {0, 255}
    assert np.array_equal(coarse, perturb(mask, generator=np.random.default_rng(seed), iou_target=target))
    if min(size) <= 2:
        assert np.array_equal(coarse, mask)


@pytest.mark.parametrize("target", [0.6, 0.8, 0.95])
def test_regions_change_until_the_target(target: float) -> None:
    mask = _waves(96)
    ious = [
        _iou(change_regions(mask, generator=np.random.default_rng(seed), iou_target=target), mask) for seed in range(20)
    ]
    # The last round of four may overshoot, rarely far.
    assert max(ious) < target
    assert np.median(ious) > target - 0.05


def test_simplified_ring_keeps_its_hole() -> None:
    ring = disk((120, 120))
    cv2.circle(ring, (60, 60), 18, 0, -1)
    for seed in range(20):
        simplified = simplify_contours(ring, generator=np.random.default_rng(seed))
        assert simplified[60, 60] == 0
        assert simplified.shape == ring.shape
        assert 0.6 < _iou(simplified, ring) < 1


def test_simplification_cuts_what_sticks_out() -> None:
    # The run that is left out has its ends close together, as about a tip; a run drawn evenly hits one in 10 of 100.
    mask = np.zeros((100, 140), np.uint8)
    mask[20:80, 20:80] = 255
    mask[49:51, 80:100] = 255
    tips = [simplify_contours(mask, generator=np.random.default_rng(seed))[49:51, 97:].any() for seed in range(50)]
    assert np.mean(tips) < 0.3


@pytest.mark.parametrize("pixels", [0, 1, 4])
def test_too_short_contours_leave_the_mask(pixels: int) -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[5, 5 : 5 + pixels] = 255
    assert np.array_equal(simplify_contours(mask, generator=np.random.default_rng(0)), mask)
