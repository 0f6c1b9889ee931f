"""Tiles of a scene: they cover it, share what they must, and pass over into each other without a step."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import segscape
from segscape.geometry.window import Window
from segscape.normalisation import Normalisation
from segscape.rasters.scratch import ScratchArray
from segscape.rasters.source import open_source
from segscape.runtime.deploy import deploy
from segscape.scenes import tiling as worker_module
from segscape.scenes.images import Images
from segscape.scenes.logits import Logits
from segscape.scenes.outputs import LabelWriter, OutputArrays
from segscape.scenes.task import Task
from segscape.scenes.tiles import TilingPlan
from segscape.scenes.tiling import TilingWorker
from segscape.scenes.views import View, ViewGeometry
from segscape.segmentation.padding import pad_to_fit


@st.composite
def _plans(draw: st.DrawFn) -> TilingPlan:
    """Scenes with tiles that share half of themselves at most."""
    size = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    tile = draw(st.integers(min(size[0], 4), size[0])), draw(st.integers(min(size[1], 4), size[1]))
    return TilingPlan(size, tile, draw(st.integers(0, min(tile) // 2)))


@st.composite
def _windows(draw: st.DrawFn, size: tuple[int, int]) -> Window:
    row, col = (draw(st.integers(0, side - 1)) for side in size)
    return Window(row, col, draw(st.integers(1, size[0] - row)), draw(st.integers(1, size[1] - col)))


def _inside(inner: Window, outer: Window) -> bool:
    return inner.intersection(outer) == inner


def _dense(plan: TilingPlan) -> npt.NDArray[np.float32]:
    """How much each tile counts at each pixel, (tiles, H, W)."""
    weights = np.zeros((len(plan.tiles), *plan.size), np.float32)
    for blend in plan.blends(Window(0, 0, *plan.size)):
        for tile, weight in zip(blend.tiles, blend.weights, strict=True):
            weights[tile, *blend.window.slices] += weight
    return weights


@settings(max_examples=200, deadline=None)
@given(plan=_plans())
def test_tiles_cover_the_scene_and_share_enough(plan: TilingPlan) -> None:
    covered = np.zeros(plan.size, bool)
    assert plan.count == len(plan.tiles) == len(set(plan.tiles))
    for tile in plan.tiles:
        assert tile.size == plan.tile
        assert _inside(tile, Window(0, 0, *plan.size))
        covered[tile.slices] = True
    assert covered.all()
    for axis in (0, 1):
        starts = sorted({tile[axis] for tile in plan.tiles})
        assert starts[0] == 0
        assert starts[-1] + plan.tile[axis] == plan.size[axis]
        steps = np.diff(starts)
        assert (plan.tile[axis] - steps >= plan.overlap).all()
        assert not len(steps) or np.ptp(steps) <= 1


@settings(max_examples=200, deadline=None)
@given(plan=_plans())
def test_no_axis_has_more_tiles_than_it_needs(plan: TilingPlan) -> None:
    for axis in (0, 1):
        count = len({tile[axis] for tile in plan.tiles})
        most = plan.tile[axis] * (count - 1) - plan.overlap * max(count - 2, 0)
        assert count == 1 or most < plan.size[axis]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), plan=_plans())
def test_cells_share_out_any_window(data: st.DataObject, plan: TilingPlan) -> None:
    window = data.draw(_windows(plan.size))
    counted = np.zeros(plan.size, int)
    for blend in plan.blends(window):
        assert _inside(blend.window, window)
        assert all(_inside(blend.window, plan.tiles[tile]) for tile in blend.tiles)
        assert len(set(blend.tiles)) == len(blend.tiles) == len(blend.fades) in (1, 2, 4)
        assert all(weight.shape == blend.window.size and (weight > 0).all() for weight in blend.weights)
        np.testing.assert_allclose(np.sum(list(blend.weights), axis=0), 1, rtol=0, atol=1e-6)
        counted[blend.window.slices] += 1
    assert (counted[window.slices] == 1).all()
    assert counted.sum() == window.height * window.width


@settings(max_examples=100, deadline=None)
@given(data=st.data(), plan=_plans())
def test_weights_do_not_depend_on_the_window(data: st.DataObject, plan: TilingPlan) -> None:
    dense, window = _dense(plan), data.draw(_windows(plan.size))
    for blend in plan.blends(window):
        for tile, weight in zip(blend.tiles, blend.weights, strict=True):
            np.testing.assert_array_equal(weight, dense[tile, *blend.window.slices])


@settings(max_examples=100, deadline=None)
@given(plan=_plans())
def test_weights_change_by_small_steps(plan: TilingPlan) -> None:
    dense = _dense(plan)
    most = 1 / max(plan.overlap // 4, 1) + 1e-6
    for axis in (1, 2):
        assert np.abs(np.diff(dense, axis=axis)).max(initial=0) <= most


def test_edges_of_tiles_do_not_count() -> None:
    plan = TilingPlan((100, 64), (64, 64), 28)
    (first, second) = _dense(plan)[:, :, 0]
    assert [tile.row for tile in plan.tiles] == [0, 36]
    # They share the rows from 36 to 64; in the middle quarter one passes over into the other.
    expected = np.clip((np.arange(100) + 0.5 - (50 - 3)) / 7, 0, 1)
    np.testing.assert_allclose(second, expected, atol=1e-6)
    np.testing.assert_allclose(first, 1 - expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (40, 70)])
def test_a_scene_of_a_tile_s_size_is_one_tile(size: tuple[int, int]) -> None:
    plan = TilingPlan(size, size, 0)
    whole = Window(0, 0, *size)
    assert plan.tiles == [whole]
    (blend,) = plan.blends(whole)
    assert (blend.window, blend.tiles) == (whole, (0,))
    assert (next(blend.weights) == 1).all()


@pytest.fixture(scope="module")
def network() -> segscape.networks.SegmentationNetwork:
    torch.manual_seed(3)
    return deploy(segscape.create_model("stdc1_seg", num_classes=4))


@pytest.mark.parametrize("view", [View(), View(0.75), View(1.0, mirrored=True)])
@torch.inference_mode()
def test_blended_as_at_full_size(view: View, network, street_frame: Path, tmp_path: Path, monkeypatch) -> None:
    plan = TilingPlan((150, 190), (96, 128), 24)
    geometry = ViewGeometry.of(network, plan.tile, view)
    with open_source(street_frame) as source:
        logits = Logits(tmp_path / "logits", plan, geometry, torch.device("cpu"))

        def images_of(place: Window) -> Images:
            return Images(source, place, geometry, normalise=Normalisation(), device=torch.device("cpu"))

        monkeypatch.setattr(worker_module, "_MOST_BLOCK_PIXELS", 3 * geometry.padded[0] * geometry.padded[1])
        worker = TilingWorker(network, plan, batch=3, geometry=geometry, images_of=images_of, logits=logits)
        assert worker.tasks() == [[Task(0, 0), Task(0, 1)]]
        for task in reversed(worker.tasks()[0]):
            worker.run(task, {}, lambda share: None)
        pixels = torch.from_numpy(source.read(Window(0, 0, *plan.size)))
    images = Normalisation()(pixels.permute(2, 0, 1)[None])
    expected = _naive_blend(plan, lambda tile: _seen(network, images[..., *tile.slices], view))
    found = logits.scores(Window(0, 0, *plan.size))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert torch.equal(logits.scores(Window(40, 33, 70, 101)), found[:, 40:110, 33:134])
    _check_labels(logits, expected, tmp_path)


def _naive_blend(plan: TilingPlan, scores_of: Callable[[Window], Tensor]) -> Tensor:
    """The sum over the tiles of weight times scores, every one at the size of the scene."""
    total = torch.zeros(4, *plan.size)
    for tile in plan.tiles:
        weight = torch.ones(plan.size)
        for axis, side in enumerate(plan.size):
            line = torch.arange(side) + 0.5
            for other in {tile[axis] for tile in plan.tiles} - {tile[axis]}:
                middle = (max(other, tile[axis]) + min(other, tile[axis]) + plan.tile[axis]) // 2
                rising = ((line - (middle - 3)) / 6).clamp(0, 1)
                share = rising if other < tile[axis] else 1 - rising
                weight *= share[:, None] if axis == 0 else share
        total[:, *tile.slices] += weight[tile.slices] * scores_of(tile)
    return total


def _seen(network, images: Tensor, view: View) -> Tensor:
    """What the network says of a tile, at the tile's size."""

    def resized(maps: Tensor, **size) -> Tensor:
        return F.interpolate(maps, mode="bilinear", align_corners=network.align_corners, **size)

    scaled = resized(images, scale_factor=view.scale) if view.scale != 1 else images
    padded = pad_to_fit(network, scaled.flip(-1) if view.mirrored else scaled)
    maps = resized(network(padded), size=padded.shape[2:])[..., : scaled.shape[2], : scaled.shape[3]]
    maps = maps.flip(-1) if view.mirrored else maps
    return resized(maps, size=images.shape[2:])[0]


def _check_labels(logits: Logits, expected: Tensor, folder: Path) -> None:
    """Compare labels and confidence with those of full-size scores."""
    size = expected.shape[1], expected.shape[2]
    arrays = OutputArrays(ScratchArray(folder / "labels", size, "uint8"), ScratchArray(folder / "sure", size, "uint8"))
    LabelWriter([logits], arrays).run(Task(0, 0), {}, lambda share: None)
    labels, sure = (torch.from_numpy(array.read(Window(0, 0, *size))) for array in (arrays.labels, arrays.confidence))
    chosen = expected.gather(0, labels.long()[None])[0]
    assert float((expected.amax(0) - chosen).max()) < 1e-4
    assert float((sure - 255 * expected.softmax(0).amax(0)).abs().max()) < 0.51
