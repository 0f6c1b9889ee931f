"""Losses: the specification's own numbers for ignored pixels, and what must always hold."""

import math

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.functional.segmentation import dice_score

from segscape.losses import Criterion, CrossEntropy, DetailLoss, DiceLoss, LossTerm, OhemCrossEntropy
from segscape.training.optimisers import warmup_poly
from tests.golden import fill
from tests.references.bisestdc import golden

# The specification's section 3.1: a quarter of the pixels ignored; loss and gradient norm by gain and n_min.
IGNORED = {
    (0, 192): (3.40677643, 0.0209459215),
    (0, 1500): (3.40677643, 0.0209459215),
    (0, 2900): (2.70662522, 0.016641181),
    (4, 192): (0.765559316, 0.015272148),
    (4, 1500): (0.717995226, 0.013844029),
    (4, 2900): (0.421252191, 0.0073825107),
    (8, 192): (0.0685979649, 0.00574377226),
    (8, 1500): (0.0225813556, 0.000860494853),
    (8, 2900): (0.0126948748, 0.000446982536),
}


@pytest.mark.parametrize(("gain", "min_kept"), IGNORED)
def test_ohem_keeps_ignored_zeros(gain: int, min_kept: int) -> None:
    labels = torch.from_numpy(fill.labels("ohem", (2, 32, 48), 19))
    base = torch.from_numpy(fill.image("ohem", (2, 19, 32, 48)))
    logits = (base + gain * F.one_hot(labels, 19).permute(0, 3, 1, 2)).requires_grad_()
    labels[:, 24:] = 255
    loss = OhemCrossEntropy(min_kept)(logits, labels)
    loss.backward()
    expected, gradient = IGNORED[gain, min_kept]
    assert loss.item() == pytest.approx(expected, rel=5e-6)
    assert logits.grad.norm().item() == pytest.approx(gradient, rel=1e-5)


def test_ohem_of_a_share_counts_the_pixels_of_the_batch() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 7, 9), torch.randint(0, 5, (3, 7, 9))
    share, number = OhemCrossEntropy(0.0625, threshold=0.01), OhemCrossEntropy(3 * 7 * 9 // 16, threshold=0.01)
    assert share(logits, labels) == number(logits, labels)
    for strange in (0.0, 1.0, 11.0):
        with pytest.raises(ValueError, match="A share of the batch lies between 0 and 1"):
            OhemCrossEntropy(strange)
    with pytest.raises(ValueError, match="9 pixels is too small"):
        share(logits[:1, :, :3, :3], labels[:1, :3, :3])


def test_ohem_of_nothing_is_zero() -> None:
    assert OhemCrossEntropy(4)(torch.randn(1, 3, 4, 4), torch.full((1, 4, 4), 255)) == 0


def test_ohem_needs_more_pixels_than_it_keeps() -> None:
    with pytest.raises(ValueError, match="16 pixels is too small for min_kept=16"):
        OhemCrossEntropy(16)(torch.randn(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_cross_entropy_equals_torch(weights: list[float] | None) -> None:
    logits, labels = torch.randn(2, 3, 5, 7), torch.randint(0, 3, (2, 5, 7))
    labels[0, :2] = 255
    expected = F.cross_entropy(logits, labels, None if weights is None else torch.tensor(weights), ignore_index=255)
    torch.testing.assert_close(CrossEntropy(weights)(logits, labels), expected)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_cross_entropy_of_nothing_is_zero(weights: list[float] | None) -> None:
    assert CrossEntropy(weights)(torch.randn(1, 3, 4, 4), torch.full((1, 4, 4), 255)) == 0


def test_detail_target_does_not_depend_on_the_precision() -> None:
    labels = torch.from_numpy(fill.labels("train", (4, 64, 128), 19))
    loss = DetailLoss()
    expected = loss.target(labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss.target(labels), expected)
    assert torch.equal(loss.double().target(labels), expected)
    # The count that the specification states for these labels.
    assert expected.sum() == 10688


def test_fixed_fusion_is_no_parameter() -> None:
    assert list(DetailLoss().parameters()) == []
    assert [p.shape for p in DetailLoss(learned_fusion=True).parameters()] == [(1, 3, 1, 1)]


@pytest.mark.parametrize("total", ["60000", "160000"])
def test_learned_fusion_decays_as_officially(total: str) -> None:
    # Only weight decay acts: every step multiplies by 1 - lr * decay, momentum included, as SGD does it.
    reference = golden()["units"]["fuse_kernel_decay"][total]
    fusion = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    momentum = torch.zeros_like(fusion)
    factor = warmup_poly(1000, int(total), 0.9)
    for step in range(int(total)):
        momentum = 0.9 * momentum + 5e-4 * fusion
        fusion = fusion - 0.01 * factor(step) * momentum
    assert fusion.tolist() == pytest.approx(reference["final_kernel"], abs=1e-4)


def test_criterion_resizes_weights_and_adds() -> None:
    logits, labels = torch.randn(2, 3, 4, 6), torch.randint(0, 3, (2, 16, 24))
    terms = [
        LossTerm("logits", CrossEntropy()),
        LossTerm("aux", CrossEntropy(), 0.25),
        LossTerm("detail", DetailLoss()),
    ]
    outputs = {"logits": logits, "aux": logits[..., ::2, ::2], "detail": logits[:, :1]}
    losses = Criterion(terms, align_corners=True)(outputs, labels)
    assert set(losses) == {"logits", "aux", "bce", "dice", "total"}
    expected = losses["logits"] + 0.25 * losses["aux"] + losses["bce"] + losses["dice"]
    torch.testing.assert_close(losses["total"], expected)
    resized = F.interpolate(logits, (16, 24), mode="bilinear", align_corners=True)
    torch.testing.assert_close(losses["logits"], F.cross_entropy(resized, labels))


def test_a_term_with_a_stride_compares_a_pixel_in_each_cell() -> None:
    coarse, labels = torch.randn(2, 3, 4, 6), torch.randint(0, 3, (2, 16, 24))
    outputs = {"logits": torch.randn(2, 3, 8, 12), "aux": coarse}
    terms = [LossTerm("logits", CrossEntropy()), LossTerm("aux", CrossEntropy(), stride=4)]
    losses = Criterion(terms, align_corners=False)(outputs, labels)
    # Not with the coarse logits as they are: the middle of a cell of 4 x 4 pixels is no pixel.
    resized = F.interpolate(coarse, (16, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(losses["aux"], F.cross_entropy(resized[..., 2::4, 2::4], labels[:, 2::4, 2::4]))


def test_criterion_names_an_output_that_is_not_there() -> None:
    criterion = Criterion([LossTerm("aux64", CrossEntropy())], align_corners=True)
    with pytest.raises(ValueError, match=r"no output 'aux64'.*logits"):
        criterion({"logits": torch.zeros(1, 2, 2, 2)}, torch.zeros(1, 2, 2, dtype=torch.long))


def test_warmup_ends_at_one_and_decay_at_zero() -> None:
    factor = warmup_poly(100, 1000, 0.9)
    assert factor(0) == pytest.approx(1e-3)
    assert factor(100) == pytest.approx(1)
    assert factor(1000) == 0
    assert all(math.isfinite(warmup_poly(0, 5, 0.9)(step)) for step in range(6))


def test_only_decay_acts_on_a_learned_fusion() -> None:
    loss = DetailLoss(learned_fusion=True)
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.1, weight_decay=0.5)
    labels = torch.from_numpy(fill.labels("train", (2, 32, 32), 19))
    sum(loss(torch.randn(2, 1, 32, 32), labels).values()).backward()
    assert loss.fusion.grad.abs().max() == 0
    optimiser.step()
    assert loss.fusion.flatten().tolist() == pytest.approx([0.95 * factor for factor in (0.6, 0.3, 0.1)])


def test_dice_of_sure_logits_is_that_of_torchmetrics() -> None:
    torch.manual_seed(0)
    labels, guesses = torch.randint(0, 5, (3, 24, 32)), torch.randint(0, 5, (3, 24, 32))
    logits = 1000.0 * F.one_hot(guesses, 5).movedim(-1, 1)
    of_classes = dice_score(guesses, labels, 5, average="none", input_format="index")
    found = DiceLoss(smooth=1e-6)(logits, labels)
    torch.testing.assert_close(found, 1 - of_classes.mean(), rtol=1e-5, atol=1e-5)


def test_dice_leaves_out_what_an_image_does_not_hold() -> None:
    logits, labels = torch.randn(2, 4, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long)
    labels[1] = 255
    labels[0, :, 4:] = 3
    part = logits[:1].softmax(1)
    shares = [(part[0, 0, :, :4].sum(), part[0, 0].sum()), (part[0, 3, :, 4:].sum(), part[0, 3].sum())]
    expected = torch.stack([1 - (2 * shared + 1) / (whole + 32 + 1) for shared, whole in shares]).mean()
    torch.testing.assert_close(DiceLoss()(logits, labels), expected)
    # Nor does it ask what lies under ignored pixels.
    logits[1] = 5
    torch.testing.assert_close(DiceLoss()(logits, labels), expected)
    assert DiceLoss()(logits[1:], labels[1:]) == 0
    with pytest.raises(ValueError, match="smooth must be above 0"):
        DiceLoss(smooth=0)


def test_dice_of_a_small_class_moves_its_logits_most() -> None:
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[0, :4, :4] = 1
    gradients = []
    for loss in (DiceLoss(), CrossEntropy()):
        logits = torch.zeros(1, 2, 32, 32, requires_grad=True)
        loss(logits, labels).backward()
        of_small = logits.grad[0, 1, :4, :4].abs().mean()
        gradients.append(of_small / logits.grad[0, 1, 4:, 4:].abs().mean())
    assert gradients[0] > 3 * gradients[1]
