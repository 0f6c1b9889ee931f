"""Boundary accuracy beside the authors' numbers and OpenCV's morphology; the scores of a data set of masks."""

import math

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from segscape.metrics import MaskScores, boundary_accuracy, boundary_counts, boundary_radii
from segscape.metrics.boundary import disk_reach
from tests.references import boundary
from tests.references.common import assert_all


@pytest.mark.parametrize("group", ["sizes", "cases", "multi_class", "data_set"])
def test_numbers_are_the_authors(group: str) -> None:
    assert_all(getattr(boundary, group)())


@pytest.mark.parametrize("radius", range(1, 40))
def test_disk_is_opencvs_ellipse(radius: int) -> None:
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    half = [2 * reach + 1 for reach in disk_reach(radius)]
    assert element.sum(1).tolist() == [*half[:0:-1], *half]


def _opencv_counts(prediction: np.ndarray, truth: np.ndarray, void: int | None = None) -> list[list[int]]:
    """The counts by morphological gradients, one class after the other."""
    counts = []
    for radius in boundary_radii(*truth.shape):
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        layers = [(truth == label).astype(np.uint8) for label in np.unique(truth) if label != void]
        band = np.any([cv2.morphologyEx(layer, cv2.MORPH_GRADIENT, disk) > 0 for layer in layers], axis=0)
        if void is not None:
            band &= truth != void
        counts.append([int(band.sum()), int((band & (prediction == truth)).sum())])
    return counts


def _smooth(rng: np.random.Generator, height: int, width: int, coarseness: float) -> np.ndarray:
    """Random blobs, from noise to a few large ones, with values about 0 and of deviation 1."""
    field = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), coarseness)
    return field / (field.std() or 1)


# Long images have large radii at few pixels: up to 27 here.
SHAPES = st.sampled_from([(1, 1), (1, 700), (900, 1), (2, 2), (5, 8000), (7000, 3), (60, 90), (130, 1500), (1300, 65)])


@given(shape=SHAPES, seed=st.integers(0, 10_000), coarseness=st.floats(0.3, 60), level=st.floats(-3, 3))
@settings(max_examples=60, deadline=None)
def test_counts_equal_opencvs_gradient(shape: tuple[int, int], seed: int, coarseness: float, level: float) -> None:
    rng = np.random.default_rng(seed)
    field = _smooth(rng, *shape, coarseness)
    truth, prediction = field > level, field + 0.3 * rng.standard_normal(shape) > level
    assert boundary_counts(prediction, truth).tolist() == _opencv_counts(prediction, truth)


@given(shape=SHAPES, seed=st.integers(0, 10_000), coarseness=st.floats(0.3, 30))
@settings(max_examples=30, deadline=None)
def test_counts_of_several_classes_equal_opencvs(shape: tuple[int, int], seed: int, coarseness: float) -> None:
    rng = np.random.default_rng(seed)
    field = _smooth(rng, *shape, coarseness)
    truth = np.digitize(field, [-1, 0, 1])
    prediction = np.digitize(field + 0.2 * rng.standard_normal(shape), [-1, 0, 1])
    assert boundary_counts(prediction, truth, void=0).tolist() == _opencv_counts(prediction, truth, void=0)


def test_large_image_equals_opencv() -> None:
    rng = np.random.default_rng(0)
    field = cv2.resize(_smooth(rng, 150, 220, 9), (3000, 2000))
    truth, prediction = field > 0.5, field > 0.45
    assert boundary_radii(2000, 3000) == (1, 4, 7, 10, 13)
    assert boundary_counts(prediction, truth).tolist() == _opencv_counts(prediction, truth)


def test_right_everywhere_and_nowhere() -> None:
    truth = np.zeros((40, 50), bool)
    truth[10:30, 20:40] = True
    assert boundary_accuracy(truth, truth) == 1
    assert boundary_accuracy(~truth, truth) == 0


@pytest.mark.parametrize("value", [False, True])
def test_without_boundary_there_is_no_accuracy(value: bool) -> None:
    truth = np.full((40, 50), value)
    assert math.isnan(boundary_accuracy(~truth, truth))


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(4, 5\).*\(5, 4\)"):
        boundary_counts(np.zeros((4, 5), bool), np.zeros((5, 4), bool))


def test_data_set_adds_pixels_and_averages_accuracies() -> None:
    rng = np.random.default_rng(1)
    truth = torch.from_numpy(np.stack([_smooth(rng, 60, 80, 9) > level for level in (0, 0.5, 9)]))
    predicted = truth ^ (torch.from_numpy(rng.random(truth.shape)) < 0.1)
    scores = MaskScores()
    scores.update(predicted[:1], truth[:1])
    scores.update(predicted[1:], truth[1:])
    result = scores.compute()
    assert result.iou == pytest.approx(int((predicted & truth).sum()) / int((predicted | truth).sum()))
    pairs = zip(predicted[:2].numpy(), truth[:2].numpy(), strict=True)
    assert result.mba == pytest.approx(np.mean([boundary_accuracy(*pair) for pair in pairs]))
    assert (result.images, result.without_boundary) == (3, 1)


def test_nothing_measured() -> None:
    empty = MaskScores()
    empty.update(torch.zeros(1, 9, 9, dtype=torch.bool), torch.zeros(1, 9, 9, dtype=torch.bool))
    result = empty.compute()
    assert math.isnan(result.iou)
    assert math.isnan(result.mba)
    assert (result.images, result.without_boundary) == (1, 1)
