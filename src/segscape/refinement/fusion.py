"""The fused features of one block, projected for the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.geometry.resample import interpolation, resample
from segscape.geometry.window import Patch, Window, windows
from segscape.networks.crm import Fusion, ImplicitDecoder
from segscape.refinement.resized_convolution import ResizedConvolution
from segscape.refinement.workers import share_out

_MOST_STRIP_BYTES = 32 << 20
# Rows and columns of features in a tile. With 256 channels a thread holds about 25 MiB for it; smaller tiles have a
# larger share of halo.
_TILE_SIZE = 24, 128


def fuse(
    fusion: Fusion,
    decoder: ImplicitDecoder,
    branches: Sequence[Patch],
    sizes: Sequence[tuple[int, int]],
    window: Window,
) -> Tensor:
    """Resize the branches, join them and project the result, part by part and without gradients.

    Args:
        fusion: Provides the join; its batch normalisation is folded into the convolution.
        decoder: Provides the projection.
        branches: The results of `fusion.branches` on the extractor's maps, with all that is needed for `window` and one
            pixel around it.
        sizes: (height, width) of each whole map; the features have the size of the first.
        window: The window of the wanted features.

    Returns:
        (window.height, window.width, width): `decoder.project` of the features.
    """
    values = branches[0].values
    width = decoder.last.in_features
    projected = torch.empty(*window.size, width, dtype=decoder.last.weight.dtype, device=values.device)
    if values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
        _fuse_tiles(fusion, decoder, branches, sizes, window, projected)
    else:
        _fuse_strips(fusion, decoder, branches, sizes, window, projected)
    return projected


def _fuse_strips(
    fusion: Fusion,
    decoder: ImplicitDecoder,
    branches: Sequence[Patch],
    sizes: Sequence[tuple[int, int]],
    window: Window,
    projected: Tensor,
) -> None:
    """Fuse strips of rows in the order in which the network computes: resize first, then convolve."""
    row_bytes = fusion.channels * (window.width + 2) * branches[0].values.element_size()
    step = max(_MOST_STRIP_BYTES // row_bytes, 8)
    for part in windows(window.size, (step, window.width)):
        strip = part.shifted(window.row, window.col)
        # The convolution's zero padding is right only at the borders of the whole map; elsewhere `cut` drops the rows
        # and columns that it falsifies.
        around = _with_border(strip, sizes[0])
        resized = [_resized(branch, size, sizes[0], around) for branch, size in zip(branches, sizes, strict=True)]
        features = Patch(fusion.join(torch.cat(resized, dim=1)), around).cut(strip).values
        projected[part.slices] = decoder.project(features.to(projected.dtype))[0]


def _resized(branch: Patch, source: tuple[int, int], size: tuple[int, int], window: Window) -> Tensor:
    """Compute a window of the branch's whole map resized from `source` to `size`."""
    if source == size:
        return branch.cut(window).values
    values = branch.values
    for axis, given, wanted, side, count in (
        (2, branch.window.rows, window.rows, source[0], size[0]),
        (3, branch.window.cols, window.cols, source[1], size[1]),
    ):
        values = resample(values, axis, interpolation(wanted, count, side, values.dtype).relative_to(given))
    return values


def _fuse_tiles(
    fusion: Fusion,
    decoder: ImplicitDecoder,
    branches: Sequence[Patch],
    sizes: Sequence[tuple[int, int]],
    window: Window,
    projected: Tensor,
) -> None:
    """Fuse tiles, the convolution before the resize."""
    conv = fusion.join.conv
    assert conv.bias is not None  # it comes from the folded normalisation
    first, *others = branches
    first_weight, *weights = torch.split(conv.weight, [branch.values.shape[1] for branch in branches], dim=1)
    first_weight = first_weight.contiguous(memory_format=torch.channels_last)
    # Built once, since all tiles share the interpolation tables.
    resizes = [
        ResizedConvolution(branch, weight, source=source, size=sizes[0], wanted=window)
        for branch, weight, source in zip(others, weights, sizes[1:], strict=True)
    ]
    by_feature = decoder.first.weight[:, : decoder.channels].T

    def work(part: Window) -> None:
        tile = part.shifted(window.row, window.col)
        joined = F.conv2d(_padded(first, tile, sizes[0]), first_weight, conv.bias).movedim(1, -1).flatten(0, 2)
        # The convolution is a sum over input channels, so each branch adds its part; the bias is in the first.
        for resize in resizes:
            joined += resize(part)
        projected[part.slices] = (joined.relu_().to(projected.dtype) @ by_feature).view(*tile.size, -1)

    share_out(lambda: work, list(windows(window.size, _TILE_SIZE)))


def _with_border(window: Window, size: tuple[int, int]) -> Window:
    """Return the window with one pixel around it, clipped to a map of `size`."""
    return Window.of(window.rows.grown(1, size[0]), window.cols.grown(1, size[1]))


def _padded(branch: Patch, window: Window, size: tuple[int, int]) -> Tensor:
    """Return a window of a map with one pixel around it, zero outside the map."""
    around = _with_border(window, size)
    top, left = 1 - (window.row - around.row), 1 - (window.col - around.col)
    bottom, right = 1 - (around.stop_row - window.stop_row), 1 - (around.stop_col - window.stop_col)
    return F.pad(branch.cut(around).values, (left, right, top, bottom))
