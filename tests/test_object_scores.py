"""The scores of soft masks beside PySODMetrics' numbers, and boundary IoU beside its authors' definition."""

import json
import math
from pathlib import Path

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from segscape.metrics import ObjectScores
from segscape.metrics.objects import boundary_iou, e_measure, s_measure, weighted_f_measure

GOLDEN = Path(__file__).parent / "golden" / "objects"
SCORES = json.loads((GOLDEN / "scores.json").read_text())["scores"]


def _case(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A soft mask and the true one; the last two are an empty and a full one."""
    with np.load(GOLDEN / "cases.npz") as stored:
        levels = stored[f"levels{number}"]
        truth = np.unpackbits(stored[f"truth{number}"], axis=1)[:, : levels.shape[1]].astype(bool)
    return levels / 255, truth


@pytest.mark.parametrize("number", range(len(SCORES)))
def test_scores_equal_another_packages(number: int) -> None:
    soft, truth = _case(number)
    found = {
        "s_measure": s_measure(soft, truth),
        "e_measure": e_measure(soft, truth),
        "weighted_f": weighted_f_measure(soft, truth),
        "mae": float(np.abs(soft - truth).mean()),
    }
    assert found == {name: pytest.approx(value, rel=1e-12, abs=1e-15) for name, value in SCORES[number].items()}


def test_means_over_images_and_processes() -> None:
    cases = [_case(number) for number in range(3)]
    whole, parts = ObjectScores(), [ObjectScores(), ObjectScores()]
    for number, (soft, truth) in enumerate(cases):
        for score in (whole, parts[number % 2]):
            score.update(torch.from_numpy(soft)[None], torch.from_numpy(truth)[None])
    parts[0].sums += parts[1].sums
    parts[0].images += parts[1].images
    result = whole.compute()
    assert result == pytest.approx(parts[0].compute())
    for name in ("s_measure", "e_measure", "weighted_f", "mae"):
        assert getattr(result, name) == pytest.approx(np.mean([SCORES[number][name] for number in range(3)]))
    assert all(math.isnan(value) for value in ObjectScores().compute())


def _boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """The definition of arXiv:2103.16562: what that many erosions by one pixel take away."""
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return mask & (cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1] == 0)


@given(st.integers(0, 1000), st.tuples(st.integers(5, 120), st.integers(5, 160)))
@settings(max_examples=30, deadline=None)
def test_boundary_iou_is_its_definition(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    one, other = (cv2.GaussianBlur(rng.random(size), (0, 0), 4) > 0.5 for _ in range(2))
    width = max(1, round(0.02 * math.hypot(*size)))
    a, b = _boundary(one, width), _boundary(other, width)
    expected = (a & b).sum() / (a | b).sum() if (a | b).any() else 1.0
    assert boundary_iou(one, other) == pytest.approx(expected)
    assert boundary_iou(one, one) == 1
