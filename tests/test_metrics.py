"""Scores beside scikit-learn's and torchmetrics' own."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torchmetrics.classification as tm
from hypothesis import given, settings
from sklearn import metrics as sk
from torch.nn import functional as F

from segscape.metrics import ConfusionMatrix, scores
from segscape.metrics.protocol import whole_image_logits


@given(num_classes=st.integers(2, 20), seed=st.integers(0, 1000), ignored=st.floats(0, 0.5))
@settings(max_examples=40, deadline=None)
def test_confusion_equals_scikit_learn(num_classes: int, seed: int, ignored: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, (3, 7, 9)).astype(np.uint8)
    predicted = rng.integers(0, num_classes, (3, 7, 9))
    labels[rng.uniform(size=labels.shape) < ignored] = 255
    confusion = ConfusionMatrix(num_classes)
    for one, other in zip(predicted, labels, strict=True):
        confusion.update(torch.from_numpy(one)[None], torch.from_numpy(other)[None])
    counted = labels != 255
    if not counted.any():
        return
    truth, guess, names = labels[counted], predicted[counted], range(num_classes)
    assert np.array_equal(confusion.compute().numpy(), sk.confusion_matrix(truth, guess, labels=names))
    result = scores(confusion.compute())
    assert result.pixel_accuracy == pytest.approx(sk.accuracy_score(truth, guess))
    present = [name for name in names if name in truth or name in guess]
    assert result.miou == pytest.approx(sk.jaccard_score(truth, guess, labels=present, average="macro"))
    in_truth = [name for name in names if name in truth]
    recall = sk.recall_score(truth, guess, labels=in_truth, average="macro", zero_division=0)
    assert result.class_accuracy == pytest.approx(recall)
    assert [name for name, iou in enumerate(result.iou) if not math.isnan(iou)] == present


def test_per_class_iou_equals_torchmetrics() -> None:
    torch.manual_seed(0)
    labels, predicted = torch.randint(0, 5, (2, 30, 40)), torch.randint(0, 5, (2, 30, 40))
    labels[0, :5] = 255
    confusion = ConfusionMatrix(5)
    confusion.update(predicted, labels)
    other = tm.MulticlassJaccardIndex(5, average="none", ignore_index=255)(predicted, labels)
    torch.testing.assert_close(torch.tensor(scores(confusion.compute()).iou), other)


def test_counts_stay_exact_beyond_float32() -> None:
    confusion = ConfusionMatrix(2)
    confusion.counts += 2**30
    confusion.update(torch.zeros(1, 1, 1, dtype=torch.long), torch.zeros(1, 1, 1, dtype=torch.uint8))
    assert confusion.compute()[0, 0] == 2**30 + 1
    assert confusion.compute().dtype == torch.int64


def test_protocol_resizes_twice() -> None:
    images = torch.randn(1, 3, 24, 40)

    def network(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 4)

    small = F.interpolate(images, (12, 20), mode="bilinear", align_corners=True)
    middle = F.interpolate(F.avg_pool2d(small, 4), (12, 20), mode="bilinear", align_corners=True)
    expected = F.interpolate(middle, (24, 40), mode="bilinear", align_corners=True)
    assert torch.equal(whole_image_logits(network, images, scale=0.5, align_corners=True), expected)
