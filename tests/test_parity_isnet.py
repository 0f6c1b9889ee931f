"""ISNet: every golden of the authors' code, and what the attentions without their matrices must be equal to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import segscape
from segscape.checkpoints.convert import to_official
from segscape.networks.isnet import ClassPooling, ContextAttention, SemanticLevelContext
from tests.references import isnet as references
from tests.references.common import assert_all


def _some_heavy(variants, *, quick: set[str]) -> list:
    return [pytest.param(v, marks=() if v in quick else pytest.mark.heavy) for v in variants]


@pytest.mark.parametrize(
    "variant", _some_heavy([*references.NETWORKS, "mmseg_r50_shortcut"], quick={"r50_cityscapes", "r50_lip"})
)
def test_evaluation_outputs(variant: str) -> None:
    assert_all(references.evaluation_outputs(variant))


@pytest.mark.parametrize("variant", _some_heavy(references.AUTHORS, quick={"r50_lip"}))
def test_training_losses_and_gradients(variant: str) -> None:
    assert_all(references.training_losses(variant))


def test_resnest_equals_its_paper() -> None:
    assert_all(references.resnest_outputs())


@pytest.mark.heavy
def test_training_losses_of_the_port() -> None:
    assert_all(references.port_training_losses())


@pytest.mark.parametrize("variant", references.AUTHORS)
def test_costs(variant: str) -> None:
    assert_all(references.costs(variant))


def test_costs_of_parts() -> None:
    assert_all(references.costs_of_parts())


@pytest.mark.parametrize("variant", _some_heavy(references.NETWORKS, quick={"r50_lip", "mmseg_r50_cityscapes"}))
def test_official_names_and_back(variant: str) -> None:
    assert_all(references.round_trip(variant))


def test_names_of_the_port() -> None:
    assert_all(references.port_names())


@pytest.mark.parametrize("name", ["isnet_resnet50", "isnet_resnet50_lip"])
def test_shortcut_of_the_port_is_refused(name: str) -> None:
    official = references.official_state("mmseg_r50_shortcut")
    with pytest.raises(ValueError, match=r"a 3x3 convolution .* instead of the authors' 1x1"):
        segscape.convert_checkpoint(name, {"state_dict": official, "meta": {}})


def test_shortcut_is_not_written_for_the_port() -> None:
    with torch.device("meta"):
        state = segscape.create_model("isnet_resnet50_lip", 20).state_dict()
    with pytest.raises(ValueError, match="another network in MMSegmentation"):
        to_official("isnet_resnet50_lip", state, origin="mmsegmentation")


def test_checkpoint_of_the_other_form_is_refused() -> None:
    official = references.official_state("r50_lip")
    with pytest.raises(ValueError, match=r"unexpected: decoder_stage2\.0\.weight.* shortcut\.0\.bias"):
        segscape.convert_checkpoint("isnet_resnet50", {"model": official, "cur_epoch": 150})


def _pooled_by_loop(features: Tensor, logits: Tensor) -> Tensor:
    """Each pixel's class vector, class after class: softmax over the class's own pixels."""
    result = torch.zeros_like(features)
    for image in range(len(features)):
        classes = logits[image].argmax(0)
        for k in classes.unique():
            own = classes == k
            weights = logits[image, k][own].softmax(0)
            result[image][:, own] = (features[image][:, own] @ weights)[:, None]
    return result


_CASES = given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    num_classes=st.integers(1, 12),
    scale=st.sampled_from([0.0, 1.0, 300.0]),
)


def _case(seed: int, batch: int, size: tuple[int, int], num_classes: int, scale: float) -> tuple[Tensor, Tensor]:
    """Features, and logits of whole numbers, so that several classes often tie and others are absent."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, 512, *size, generator=generator, dtype=torch.float64)
    logits = scale * torch.randint(-2, 3, (batch, num_classes, *size), generator=generator).double()
    return features, logits


@settings(max_examples=20, deadline=None)
@_CASES
def test_classes_are_pooled_as_one_by_one(seed, batch, size, num_classes, scale) -> None:
    features, logits = (x.requires_grad_() for x in _case(seed, batch, size, num_classes, scale))
    classes = logits.argmax(1)
    vectors, counts = ClassPooling()(features, logits, classes)
    torch.testing.assert_close(counts, torch.nn.functional.one_hot(classes, num_classes).sum((1, 2)).double())
    ours = vectors.gather(2, classes.flatten(1)[:, None].expand(-1, 512, -1)).view_as(features)
    expected = _pooled_by_loop(features, logits)
    torch.testing.assert_close(ours, expected)
    direction = torch.randn_like(features)
    gradients = [torch.autograd.grad((x * direction).sum(), (features, logits)) for x in (ours, expected)]
    torch.testing.assert_close(*gradients)


@pytest.fixture(scope="module")
def semantic_context() -> SemanticLevelContext:
    torch.manual_seed(0)
    module = SemanticLevelContext(negative_slope=0.01)
    module.fuse = torch.nn.Identity()
    module.double()
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(norm.running_mean, std=0.1)
            torch.nn.init.uniform_(norm.running_var, 0.05, 0.2)
    return module.eval()


@settings(max_examples=20, deadline=None)
@_CASES
def test_one_key_a_class_equals_one_key_a_pixel(semantic_context, seed, batch, size, num_classes, scale) -> None:
    features, logits = _case(seed, batch, size, num_classes, scale)
    with torch.no_grad():
        by_class = semantic_context(features, logits, features)
        semantic_context.training = True
        by_pixel = semantic_context(features, logits, features)
        semantic_context.training = False
        together = torch.cat(
            [semantic_context(f[None], z[None], f[None]) for f, z in zip(features, logits, strict=True)]
        )
    torch.testing.assert_close(by_class, by_pixel)
    torch.testing.assert_close(by_class, together)


def test_attention_is_softmax_of_scaled_products_in_a_fused_kernel() -> None:
    torch.manual_seed(0)
    attention = ContextAttention(24, negative_slope=0.01).double().eval()
    features = torch.randn(2, 512, 5, 7, dtype=torch.float64, requires_grad=True)
    source = torch.randn(2, 24, 3, 4, dtype=torch.float64, requires_grad=True)
    query, key, value = (
        project(x).flatten(2)
        for project, x in ((attention.query, features), (attention.key, source), (attention.value, source))
    )
    weights = torch.softmax(query.transpose(1, 2) @ key / 16, dim=2)
    expected = attention.out((value @ weights.transpose(1, 2)).view(2, 256, 5, 7))
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        ours = attention(features, source)
    torch.testing.assert_close(ours, expected)
    gradients = [torch.autograd.grad(x.square().sum(), (features, source)) for x in (ours, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_counts_every_pixel(dtype: torch.dtype) -> None:
    features = torch.ones(1, 4, 90, 100, dtype=dtype)
    vectors, counts = ClassPooling()(features, torch.zeros(1, 2, 90, 100, dtype=dtype), torch.zeros(1, 90, 100).long())
    assert counts.tolist() == [[9000.0, 0.0]]
    torch.testing.assert_close(vectors[..., 0], torch.ones(1, 4, dtype=dtype))


@pytest.mark.parametrize("name", references.PROTOCOLS)
def test_evaluation_protocols(name: str) -> None:
    assert_all(references.evaluation_protocol(name))
