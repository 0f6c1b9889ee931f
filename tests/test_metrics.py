"""Scores beside scikit-learn's and torchmetrics' own."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torchmetrics.classification as tm
from hypothesis import given, settings
from sklearn import metrics as sk

from segscape.metrics import ConfusionMatrix, scores


@given(num_classes=st.integers(2, 20), seed=st.integers(0, 1000), ignored=st.floats(0, 0.5))
@settings(max_examples=40, deadline=None)
def test_confusion_equals_scikit_learn(num_classes: int, seed: int, ignored: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, (3, 7, 9)).astype(np.uint8)
    # A prediction that is none of the classes is never right, and no class's.
    predicted = rng.integers(0, num_classes + 1, (3, 7, 9))
    labels[rng.uniform(size=labels.shape) < ignored] = 255
    confusion = ConfusionMatrix(num_classes)
    for one, other in zip(predicted, labels, strict=True):
        nameless = np.where(one == num_classes, 255, one)
        confusion.update(torch.from_numpy(nameless)[None], torch.from_numpy(other)[None])
    counted = labels != 255
    if not counted.any():
        return
    truth, guess, names = labels[counted], predicted[counted], range(num_classes)
    expected = sk.confusion_matrix(truth, guess, labels=range(num_classes + 1))[:num_classes]
    assert np.array_equal(confusion.compute().numpy(), expected)
    result = scores(confusion.compute())
    assert result.pixel_accuracy == pytest.approx(sk.accuracy_score(truth, guess))
    present = [name for name in names if name in truth or name in guess]
    assert result.miou == pytest.approx(sk.jaccard_score(truth, guess, labels=present, average="macro"))
    in_truth = [name for name in names if name in truth]
    recall = sk.recall_score(truth, guess, labels=in_truth, average="macro", zero_division=0)
    assert result.class_accuracy == pytest.approx(recall)
    assert [name for name, iou in enumerate(result.iou) if not math.isnan(iou)] == present


def test_scores_of_each_class_equal_torchmetrics() -> None:
    torch.manual_seed(0)
    labels, predicted = torch.randint(0, 5, (2, 30, 40)), torch.randint(0, 5, (2, 30, 40))
    labels[0, :5] = 255
    confusion = ConfusionMatrix(5)
    confusion.update(predicted, labels)
    other = tm.MulticlassJaccardIndex(5, average="none", ignore_index=255)(predicted, labels)
    torch.testing.assert_close(torch.tensor(scores(confusion.compute()).iou), other)
    recall = tm.MulticlassRecall(5, average="none", ignore_index=255)(predicted, labels)
    torch.testing.assert_close(torch.tensor(scores(confusion.compute()).accuracy), recall)


def test_counts_stay_exact_beyond_float32() -> None:
    confusion = ConfusionMatrix(2)
    confusion.counts += 2**30
    confusion.update(torch.zeros(1, 1, 1, dtype=torch.long), torch.zeros(1, 1, 1, dtype=torch.uint8))
    assert confusion.compute()[0, 0] == 2**30 + 1
    assert confusion.compute().dtype == torch.int64


def test_excluded_classes_count_only_in_the_others() -> None:
    """DeepGlobe's unknown: its own score is left out, but what is taken for it, or it for another, is an error."""
    torch.manual_seed(0)
    labels, predicted = torch.randint(0, 7, (2, 40, 50)), torch.randint(0, 7, (2, 40, 50))
    confusion = ConfusionMatrix(7)
    confusion.update(predicted, labels)
    result = scores(confusion.compute(), excluded=(0,))
    truth, guess = labels.flatten().numpy(), predicted.flatten().numpy()
    each = sk.jaccard_score(truth, guess, labels=range(7), average=None)
    assert result.iou == pytest.approx(each)
    assert result.miou == pytest.approx(each[1:].mean())
    assert result.miou_all == pytest.approx(each.mean())
    recall = sk.recall_score(truth, guess, labels=range(1, 7), average="macro")
    assert result.class_accuracy == pytest.approx(recall)
    assert result.pixel_accuracy == pytest.approx(sk.accuracy_score(truth, guess))
    assert result.mean_iou([2, 5]) == pytest.approx((each[2] + each[5]) / 2)


def test_mean_of_some_classes_leaves_out_absent_ones() -> None:
    confusion = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    result = scores(confusion)
    assert result.mean_iou([0, 2]) == result.iou[0] == pytest.approx(3 / 4)
    assert math.isnan(result.mean_iou([2]))
