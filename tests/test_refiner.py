"""Mask refinement by blocks equals that of whole images, point by point; and what users may hand over."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

import segscape
from segscape.geometry.resample import mirrored
from segscape.geometry.window import Window
from segscape.networks.crm import CRM
from segscape.normalisation import Normalisation
from segscape.refinement import workload
from segscape.refinement.decoder import decode_block
from segscape.refinement.extraction import Chain
from segscape.refinement.fusion import fuse
from segscape.refinement.plan import StageAxis, around, grid
from segscape.refinement.refiner import Refiner, boundary_band
from segscape.refinement.stages import Engine, StageInputs
from segscape.refinement.stored_map import StoredMap
from segscape.refinement.workload import Workload
from segscape.runtime.deploy import deploy
from tests.references.crm import inner, pipeline_network, plain_stages


def _small_network(name: str = "crm_resnet18", *, bias: float = 0.0) -> CRM:
    """A network with random weights and statistics, whose masks are neither empty nor full."""
    torch.manual_seed(0)
    network = segscape.create_model(name)
    assert isinstance(network, CRM)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.0)
    for layer in [*network.decoder.hidden, network.decoder.last]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    with torch.no_grad():
        network.decoder.last.weight *= 10
    nn.init.constant_(network.decoder.last.bias, bias)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> CRM:
    return _small_network()


@pytest.fixture(scope="module")
def exact(network: CRM) -> CRM:
    """The network in float64."""
    return _small_network().double()


@pytest.fixture(scope="module")
def residual() -> CRM:
    """EfficientNet-Lite0, which adds to the masks, in float64."""
    return _small_network("crm_efficientnet_lite0").double()


@pytest.fixture(scope="module")
def published() -> CRM:
    """ResNet-50 with the weights of the goldens."""
    return pipeline_network()


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is counted without what fusion and decoder may always take, so that tiny images are cut as well."""
    monkeypatch.setattr(workload, "STRIP_BYTES", 0)


def _scene(height: int, width: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image and a coarse mask, both of blobs."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.uniform(0, 255, (height, width, 3)), (3, 3, 0), mode="nearest")
    image = (image - image.min()) / np.ptp(image) * 255 if np.ptp(image) else image
    mask = ndimage.gaussian_filter(rng.standard_normal((height, width)), 6) > 0
    mask[height // 2, width // 2] = True
    return image.astype(np.uint8), np.where(mask, 255, 0).astype(np.uint8)


def _logits_by_blocks(network: CRM, x: torch.Tensor, size: tuple[int, int], parts: tuple[int, int]) -> torch.Tensor:
    """What `network` gives for an image with its mask (1, 4, h, w), in a grid of blocks."""
    deployed = deploy(network)
    chain = Chain.of(deployed.extractor)
    axes = [
        StageAxis(chain, full=full, size=side, queried=np.arange(full), dtype=x.dtype)
        for full, side in zip(size, x.shape[2:], strict=True)
    ]
    logits = torch.full(size, torch.nan, dtype=x.dtype)
    for rows, cols in itertools.product(*(axis.cut(number) for axis, number in zip(axes, parts, strict=True))):
        crop = x[..., rows.needs.needed[0].slice, cols.needs.needed[0].slice]
        branches = chain.run(crop, rows.needs, cols.needs, deployed.fusion.branches)
        sizes = list(zip(*(chain.map_sizes(lines) for lines in x.shape[2:]), strict=True))
        window = Window.of(rows.features, cols.features)
        projected = fuse(deployed.fusion, deployed.decoder, branches, sizes, window)
        points = (axis.points_among_features(x.device) for axis in (rows, cols))
        decode_block(deployed.decoder, projected, *points, out=logits[rows.queried, cols.queried])
    return logits


def _assert_blocks_equal_whole(
    network: CRM, lines: tuple[int, int], size: tuple[int, int], parts: tuple[int, int], tolerance: float
) -> None:
    dtype = network.decoder.last.weight.dtype
    x = torch.randn(1, 4, *lines, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = network(x[:, :3], x[:, 3:], size=size)[0, 0]
        blocks = _logits_by_blocks(network, x, size, parts)
    assert (blocks - whole).abs().max() <= tolerance * whole.abs().max()


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ((333, 95), (3, 2)),
        ((519, 24), (16, 1)),
        ((521, 23), (7, 2)),
        ((24, 520), (1, 16)),
        ((712, 24), (9, 1)),
        ((90, 103), (1, 1)),
    ],
)
def test_blocks_equal_whole(exact: CRM, lines: tuple[int, int], parts: tuple[int, int]) -> None:
    _assert_blocks_equal_whole(exact, lines, lines, parts, 1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_blocks_of_published_network_equal_whole(published: CRM, dtype: torch.dtype, tolerance: float) -> None:
    network = deploy(published).to(dtype)
    _assert_blocks_equal_whole(network, (331, 30), (331, 30), (3, 1), tolerance)


@pytest.mark.parametrize(("lines", "parts"), [((333, 95), (3, 2)), ((521, 23), (7, 2)), ((24, 520), (1, 16))])
def test_blocks_of_another_extractor_equal_whole(residual: CRM, lines, parts) -> None:
    x = torch.randn(1, 4, *lines, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = residual.decoder(residual.features(x[:, :3], x[:, 3:]), lines)[0, 0]
        blocks = _logits_by_blocks(residual, x, lines, parts)
    assert whole.std() > 0.01
    torch.testing.assert_close(blocks, whole, atol=1e-10, rtol=0)


@settings(max_examples=12, deadline=None)
@given(
    lines=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    stretch=st.sampled_from([1, 2, 3.9]),
    parts=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_any_blocks_equal_whole(exact: CRM, lines, stretch, parts) -> None:
    size = (round(lines[0] * stretch), round(lines[1] * stretch))
    _assert_blocks_equal_whole(exact, lines, size, parts, 1e-10)


def _refined(network: CRM, image: np.ndarray, mask: np.ndarray, *, memory: float = 1 << 30) -> np.ndarray:
    """The last probabilities, in the network's own precision."""
    engine = Engine(deploy(network), Normalisation())
    inputs = StageInputs.of(torch.from_numpy(image), torch.from_numpy(mask), None)
    with torch.inference_mode():
        *_, (_, stored) = engine.run(inputs, memory=memory)
    return stored.values[..., 0].numpy()


# With the border of 64 lines in all, an eighth of 68 and of 76 lines meets a half, which goes to the even neighbour.
@pytest.mark.parametrize(
    "size", [(4, 12), (1, 1), (1, 70), (33, 20), (101, 155)], ids=lambda size: f"{size[0]}x{size[1]}"
)
@pytest.mark.usefixtures("tight")
def test_refinement_equals_plain_one(exact: CRM, size: tuple[int, int]) -> None:
    image, mask = _scene(*size)
    *_, last = plain_stages(exact, image, mask)
    expected = inner(last.probability)
    assert expected.std() > 0.01 or expected.size == 1
    for memory in (1 << 30, 14 << 20):
        np.testing.assert_allclose(_refined(exact, image, mask, memory=memory), expected, atol=1e-10)


@pytest.mark.parametrize("size", [(4, 12), (101, 155)])
@pytest.mark.usefixtures("tight")
def test_residual_refinement_equals_plain_one(residual: CRM, size: tuple[int, int]) -> None:
    image, mask = _scene(*size)
    *_, last = plain_stages(residual, image, mask)
    for memory in (1 << 30, 14 << 20):
        engine = Engine(deploy(residual), residual.normalisation)
        inputs = StageInputs.of(torch.from_numpy(image), torch.from_numpy(mask), None)
        with torch.inference_mode():
            *_, (_, stored) = engine.run(inputs, memory=memory)
        np.testing.assert_allclose(stored.values[..., 0].numpy(), inner(last.probability), atol=1e-10)


def test_a_fresh_residual_network_keeps_every_mask() -> None:
    image, mask = _scene(90, 70)
    levels = ndimage.gaussian_filter(mask.astype(np.float32) / 255, 2)
    refiner = Refiner(segscape.create_model("crm_efficientnet_lite0"), "cpu")
    for _, probability in refiner.stages(image, levels):
        np.testing.assert_allclose(probability, levels.clip(0.01, 0.99), atol=1e-5)
    np.testing.assert_array_equal(refiner.refine(image, mask, band=4).mask, mask > 0)
    assert not refiner.refine(image, np.zeros_like(mask)).probability.any()


@settings(max_examples=5, deadline=None)
@given(size=st.tuples(st.integers(1, 50), st.integers(1, 50)), seed=st.integers(0, 1000))
def test_refinement_of_any_size_equals_plain_one(exact: CRM, size, seed) -> None:
    image, mask = _scene(*size, seed=seed)
    *_, last = plain_stages(exact, image, mask)
    np.testing.assert_allclose(_refined(exact, image, mask), inner(last.probability), atol=1e-10)


def test_every_stage_equals_plain_one(published: CRM) -> None:
    image, mask = _scene(90, 120)
    stages = Refiner(published, "cpu").stages(image, mask)
    for (_, ours), plain in zip(stages, plain_stages(published, image, mask), strict=True):
        np.testing.assert_allclose(ours, inner(plain.probability), atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_first_steps(network: CRM, steps: int) -> None:
    image, mask = _scene(50, 60)
    refiner = Refiner(network, "cpu")
    result = refiner.refine(image, mask, steps=steps)
    expected = [probability for _, probability in refiner.stages(image, mask)][steps - 1]
    np.testing.assert_allclose(result.probability, expected, atol=1e-5)
    assert list(result.seconds) == [0.125, 0.25, 0.5][:steps]


class _Counted(nn.Module):
    """Counts its calls."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.calls = module, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.module(x)


@pytest.mark.parametrize(
    ("least_side", "steps", "run"),
    [(0, 4, (0.125, 0.25, 0.5, 1.0)), (48, 4, (0.5, 1.0)), (49, 4, (1.0,)), (24, 3, (0.25, 0.5)), (200, 2, (0.25,))],
)
def test_stages_of_too_small_a_side_are_left_out(network: CRM, least_side: int, steps: int, run) -> None:
    image, mask = _scene(120, 96)
    result = Refiner(network, "cpu", least_side=least_side).refine(image, mask, steps=steps)
    assert tuple(result.seconds) == run
    scales = [scale for scale, _ in Refiner(network, "cpu", least_side=least_side).stages(image, mask)]
    assert scales == [0.125, 0.25, 0.5, 1.0]


def test_shipped_weights_know_their_least_side() -> None:
    image, mask = _scene(480, 640)
    assert 0.125 not in Refiner.from_weights("crm_efficientnet_lite0.objects", "cpu").refine(image, mask).seconds


def test_empty_mask_stays_empty_without_work(network: CRM) -> None:
    engine = Engine(deploy(network), Normalisation())
    counted = engine.network.decoder.last = _Counted(engine.network.decoder.last)
    counted.weight = counted.module.weight
    told = []
    inputs = StageInputs.of(torch.zeros(40, 50, 3, dtype=torch.uint8), torch.zeros(40, 50, dtype=torch.uint8), None)
    *_, (scale, stored) = engine.run(inputs, memory=1 << 30, on_progress=lambda *work: told.append(work))
    assert scale == 1.0
    assert stored.values.shape == (40, 50, 1)
    assert not stored.values.any()
    assert counted.calls == 0
    assert told[-1][0] == told[-1][1]


# A pixel in the corner stands once, one near it four times in the mirrored mask.
@pytest.mark.parametrize(("value", "empty"), [(255, False), (254, True)])
def test_mask_of_less_than_a_pixel_is_empty(network: CRM, value: int, empty: bool) -> None:
    image, mask = _scene(80, 80)
    mask[:] = 0
    mask[40, 40] = value
    *_, last = plain_stages(network, image, mask)
    refined = Refiner(network, "cpu").refine(image, mask).probability
    assert (not refined.any()) == empty == (not last.probability.any())


@pytest.mark.parametrize("bias", [-30.0, -10.2, -9.2, -7.0])
def test_mask_that_fades(bias: float) -> None:
    network = _small_network(bias=bias)
    with torch.no_grad():
        network.decoder.last.weight *= 0.001
    image, mask = _scene(60, 60)
    *_, last = plain_stages(network, image, mask)
    refined = Refiner(network, "cpu").refine(image, mask).probability
    np.testing.assert_allclose(refined, inner(last.probability), atol=1e-6)
    assert (not refined.any()) == (bias < -10)


def test_band_keeps_the_rest(network: CRM) -> None:
    image, mask = _scene(150, 130)
    refiner = Refiner(network, "cpu")
    result = refiner.refine(image, mask, band=5).probability
    band = boundary_band(mask > 127, 5)
    assert 0.05 < band.mean() < 0.95
    np.testing.assert_array_equal(result[~band], mask[~band] / np.float32(255))
    assert not np.isin(result[band], [0, 1]).all()


@pytest.mark.usefixtures("tight")
def test_band_over_everything_changes_nothing(network: CRM) -> None:
    image, mask = _scene(150, 130)
    refiner = Refiner(network, "cpu", max_memory=8 << 20)
    everywhere = refiner.refine(image, mask, band=150).probability
    np.testing.assert_allclose(everywhere, refiner.refine(image, mask).probability, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), size=st.tuples(st.integers(1, 30), st.integers(1, 30)), distance=st.integers(1, 12))
def test_band_is_where_the_other_side_is_near(seed, size, distance) -> None:
    mask = np.random.default_rng(seed).uniform(size=size) > 0.9
    far = np.full(size, np.inf)
    to_mask, to_rest = (
        ndimage.distance_transform_cdt(~side, metric="chessboard") if side.any() else far for side in (mask, ~mask)
    )
    expected = np.where(mask, to_rest, to_mask) <= distance
    np.testing.assert_array_equal(boundary_band(mask, distance), expected)


@pytest.mark.usefixtures("tight")
def test_memory_changes_nothing(network: CRM) -> None:
    image, mask = _scene(180, 140)
    whole, *others = (
        Refiner(network, "cpu", max_memory=memory).refine(image, mask).probability
        for memory in (1 << 30, 20 << 20, 6 << 20)
    )
    for other in others:
        np.testing.assert_allclose(other, whole, atol=1e-5)


@pytest.mark.parametrize("band", [None, 8])
def test_too_little_memory(network: CRM, band: int | None) -> None:
    image, mask = _scene(180, 140)
    with pytest.raises(ValueError, match=r"takes \d+ MiB more than .*; raise max_memory"):
        Refiner(network, "cpu", max_memory=1 << 20).refine(image, mask, band=band)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near(network: CRM, precision) -> None:
    image, mask = _scene(70, 80)
    exact = Refiner(network, "cpu").refine(image, mask).probability
    refined = Refiner(network, "cpu", precision=precision).refine(image, mask).probability
    assert refined.dtype == np.float32
    assert np.abs(refined - exact).mean() < 0.02


def test_progress_grows_to_the_end(network: CRM) -> None:
    image, mask = _scene(70, 80)
    told = []
    Refiner(network, "cpu").refine(image, mask, on_progress=lambda done, total: told.append((done, total)))
    done, totals = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert set(totals) == {done[-1]}


def test_kinds_of_input(network: CRM, tmp_path) -> None:
    image, mask = _scene(40, 50)
    refiner = Refiner(network, "cpu")
    expected = refiner.refine(image, mask).probability
    Image.fromarray(image).save(tmp_path / "image.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    inside = mask > 0
    for given_mask in (inside, inside.astype(np.uint8), inside.astype(np.float64), Image.fromarray(mask)):
        refined = refiner.refine(Image.fromarray(image), given_mask)
        np.testing.assert_allclose(refined.probability, expected, atol=1e-6)
    from_files = refiner.refine(tmp_path / "image.png", str(tmp_path / "mask.png"))
    np.testing.assert_allclose(from_files.probability, expected, atol=1e-6)
    np.testing.assert_array_equal(from_files.mask, from_files.probability > 0.5)


def test_soft_mask(network: CRM) -> None:
    image, mask = _scene(40, 50)
    soft = ndimage.gaussian_filter(mask, 3)
    *_, last = plain_stages(network, image, soft)
    refiner = Refiner(network, "cpu")
    for given_mask in (soft, soft / 255):
        np.testing.assert_allclose(refiner.refine(image, given_mask).probability, inner(last.probability), atol=1e-5)


def test_full_mask(network: CRM) -> None:
    image, mask = _scene(40, 50)
    mask[:] = 255
    *_, last = plain_stages(network, image, mask)
    np.testing.assert_allclose(
        Refiner(network, "cpu").refine(image, mask).probability, inner(last.probability), atol=1e-5
    )
    np.testing.assert_array_equal(Refiner(network, "cpu").refine(image, mask, band=4).probability, 1)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((40, 51), np.uint8), r"40 x 50 pixels and the mask 40 x 51 .*; resize the mask"),
        (np.zeros((40, 50, 3), np.uint8), r"array \(H, W\) .* this one is \(40, 50, 3\) of uint8"),
        (np.full((40, 50), 255.0), "floating point from 0 to 1; .* from 255.0 to 255.0"),
        (np.full((40, 50), np.nan), "floating point from 0 to 1; .* from nan"),
        (np.zeros((40, 50), np.int64), "this one is .* of int64"),
        (np.zeros((0, 50), np.uint8), "this one is"),
    ],
)
def test_unfit_masks(network: CRM, mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Refiner(network, "cpu").refine(np.zeros((40, 50, 3), np.uint8), mask)


@pytest.mark.parametrize(("options", "message"), [({"steps": 0}, "1 to 4, not 0"), ({"band": 0}, "at least 1 pixel")])
def test_options_out_of_range(network: CRM, options, message: str) -> None:
    image, mask = _scene(40, 50)
    with pytest.raises(ValueError, match=message):
        Refiner(network, "cpu").refine(image, mask, **options)


def test_weights_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="scapenet_lite0, which does not refine masks"):
        Refiner.from_weights("scapenet_lite0.street")


def test_saved_mask_is_rounded(network: CRM, tmp_path) -> None:
    image, mask = _scene(40, 50)
    result = Refiner(network, "cpu").refine(image, mask, steps=1)
    result.save(tmp_path / "refined.png")
    saved = np.asarray(Image.open(tmp_path / "refined.png"))
    assert np.abs(saved / 255 - result.probability).max() <= 0.5 / 255 + 1e-6
    with pytest.raises(ValueError, match=r"name the file \.png"):
        result.save(tmp_path / "refined.jpg")


@settings(max_examples=40, deadline=None)
@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), target=st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_resize_is_that_of_pytorch(size, target) -> None:
    values = torch.rand(*size, 2, generator=torch.Generator().manual_seed(3))
    expected = F.interpolate(values.permute(2, 0, 1)[None], size=target, mode="bilinear", align_corners=True)
    stored = StoredMap(values, *(np.arange(lines) for lines in size))
    ours = stored.resized(target, Window.whole(target), torch.float32)
    torch.testing.assert_close(ours, expected[0].permute(1, 2, 0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("lines", [33, 40, 100])
def test_mirrored_border_is_that_of_pytorch(lines: int) -> None:
    expected = F.pad(torch.arange(lines).double()[None], (32, 32), mode="reflect")[0]
    np.testing.assert_array_equal(mirrored(lines, 32), expected)


def test_deployed_network_gives_the_same(published: CRM) -> None:
    x = torch.randn(1, 4, 40, 56, generator=torch.Generator().manual_seed(4))
    deployed = deploy(published)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in deployed.extractor.modules())
    with torch.inference_mode():
        expected, ours = (net(x[:, :3], x[:, 3:], size=(40, 56)) for net in (published, deployed))
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(st.integers(20, 900), st.integers(20, 900)),
    scale=st.sampled_from([0.125, 0.5, 1.0]),
    share=st.floats(0.05, 1),
    banded=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_blocks_hold_every_wanted_point_once(network: CRM, size, scale, share, banded, seed) -> None:
    chain = Chain.of(network.extractor)
    rng = np.random.default_rng(seed)
    axes = [
        StageAxis(
            chain,
            full=full,
            size=max(round(full * scale), 8),
            queried=np.sort(rng.choice(full, max(round(share * full), 1), replace=False)),
            dtype=torch.float32,
        )
        for full in size
    ]
    work, memory = Workload(network, chain), workload.STRIP_BYTES + (40 << 20)
    wanted = np.ones([len(axis.queried) for axis in axes], bool)
    if banded:
        wanted &= ndimage.gaussian_filter(rng.standard_normal(wanted.shape), 20, mode="wrap") > 0.01
    blocks = around(*axes, work, memory, wanted) if banded else grid(*axes, work, memory)
    held = np.zeros(wanted.shape, int)
    for rows, cols in blocks:
        held[rows.queried, cols.queried] += 1
        assert work.memory(rows.counts, cols.counts) <= memory
    assert (held[wanted] == 1).all()
    assert held.max(initial=0) <= 1
