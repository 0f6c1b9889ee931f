"""Maximal F-measure and mean absolute error beside a naive loop and numbers by hand."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from segscape.metrics import SaliencyScores


def _naive(masks: np.ndarray, truths: np.ndarray) -> tuple[float, int, float]:
    """Every threshold and image by itself."""
    best, where = -1.0, -1
    for threshold in range(256):
        precisions, recalls = [], []
        for mask, truth in zip(masks, truths, strict=True):
            marked = np.rint(mask * 255) >= threshold
            right = np.sum(marked & truth)
            precisions.append(right / marked.sum() if marked.any() else 0.0)
            recalls.append(right / truth.sum())
        precision, recall = np.mean(precisions), np.mean(recalls)
        if precision + recall and 1.3 * precision * recall / (0.3 * precision + recall) > best + 1e-12:
            best, where = 1.3 * precision * recall / (0.3 * precision + recall), threshold
    return best, where, float(np.mean(np.abs(masks - truths)))


@given(seed=st.integers(0, 10000), grain=st.sampled_from([0.1, 0.5, 2.0]))
@settings(max_examples=15)
def test_scores_equal_a_naive_loop(seed: int, grain: float) -> None:
    rng = np.random.default_rng(seed)
    truths = rng.uniform(size=(3, 9, 11)) < 0.4
    truths[:, 0, 0] = True
    masks = (0.6 * truths + 0.2 + grain * (rng.uniform(size=truths.shape) - 0.5)).clip(0, 1).astype(np.float32)
    scores = SaliencyScores()
    scores.update(torch.from_numpy(masks[:2]), torch.from_numpy(truths[:2]))
    scores.update(torch.from_numpy(masks[2:]), torch.from_numpy(truths[2:]))
    result = scores.compute()
    best, where, error = _naive(masks, truths)
    assert result.max_f == pytest.approx(best)
    assert result.threshold == where
    assert result.mae == pytest.approx(error, abs=1e-6)
    assert (result.images, result.without_object) == (3, 0)


def test_numbers_by_hand() -> None:
    """Two objects of two pixels. Above level 100 precisions are 1 and 1/2 and recalls 1/2 and 1, below 1/2 and 1."""
    masks = torch.tensor([[[200.0, 100, 100, 100]], [[200, 200, 200, 200]]]) / 255
    truths = torch.tensor([[[True, True, False, False]], [[True, True, False, False]]])
    scores = SaliencyScores()
    scores.update(masks, truths)
    result = scores.compute()
    assert result.max_f == pytest.approx(1.3 * 0.75 * 0.75 / (0.3 * 0.75 + 0.75))
    # Of thresholds with one result the least: 101 is the first above the grey level 100.
    assert result.threshold == 101
    first = (55 + 155 + 100 + 100) / 4 / 255
    second = (55 + 55 + 200 + 200) / 4 / 255
    assert result.mae == pytest.approx((first + second) / 2)


def test_perfect_useless_and_missing() -> None:
    truth = torch.tensor([[[True, False, False]]])
    perfect, inverted, empty = SaliencyScores(), SaliencyScores(), SaliencyScores()
    perfect.update(truth.float(), truth)
    inverted.update(1 - truth.float(), truth)
    assert perfect.compute()[:3] == (1, 1, 0)
    # At threshold 0 everything is marked.
    assert inverted.compute().max_f == pytest.approx(1.3 / 3 / (0.1 + 1))
    assert (inverted.compute().threshold, inverted.compute().mae) == (0, 1)
    with pytest.warns(UserWarning, match="before the"):
        nothing = empty.compute()
    assert math.isnan(nothing.max_f)
    assert math.isnan(nothing.mae)
    perfect.update(torch.full((1, 1, 3), 0.5), torch.zeros(1, 1, 3, dtype=torch.bool))
    assert perfect.compute() == (1, 1, 0.25, 2, 1)
