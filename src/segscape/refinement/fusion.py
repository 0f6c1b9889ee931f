"""The fused features of one block, as the decoder reads them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.geometry.interval import Patch, Span, interpolation
from segscape.networks.crm import Fusion, ImplicitDecoder
from segscape.refinement.taps import TapResize
from segscape.refinement.workers import share_out

_STRIP_BYTES = 32 << 20
# Rows and columns of features in a tile. With 256 channels a thread holds about 25 MiB for it; smaller tiles read more
# of their neighbours.
_TILE = 24, 128


def fuse(fusion: Fusion, decoder: ImplicitDecoder, branches: Sequence[Patch], rows: Span, cols: Span) -> Tensor:
    """Resize the branches, join them and project the result, without gradients, a part after the other.

    Args:
        fusion: Gives the join; its batch normalisation is folded into the convolution.
        decoder: Gives the projection.
        branches: What `fusion.branches` made of the extractor's three maps, with all that `rows` and `cols` and one
            cell around them need.
        rows: The wanted rows of features.
        cols: The wanted columns.

    Returns:
        (h, w, width): `decoder.project` of the features.
    """
    values = branches[0].values
    projected = torch.empty(
        rows.length, cols.length, decoder.last.in_features, dtype=decoder.last.weight.dtype, device=values.device
    )
    if values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
        _fuse_tiles(fusion, decoder, branches, rows, cols, projected)
    else:
        _fuse_strips(fusion, decoder, branches, rows, cols, projected)
    return projected


def _fuse_strips(
    fusion: Fusion, decoder: ImplicitDecoder, branches: Sequence[Patch], rows: Span, cols: Span, projected: Tensor
) -> None:
    """Strips of rows in the order in which the network computes."""
    line_bytes = fusion.channels * (cols.length + 2) * branches[0].values.element_size()
    step = max(_STRIP_BYTES // line_bytes, 8)
    for start in range(rows.start, rows.stop, step):
        strip = Span(start, min(start + step, rows.stop), rows.total)
        around = (strip.grow(1), cols.grow(1))
        joined = fusion.join(torch.cat([_resized(branch, *around) for branch in branches], dim=1))
        features = Patch(joined, *around).cut(strip, cols).values
        projected[strip.within(rows)] = decoder.project(features.to(projected.dtype))[0]


def _resized(branch: Patch, rows: Span, cols: Span) -> Tensor:
    """A part of the branch resized as a whole to the size that `rows` and `cols` tell."""
    values = branch.values
    for dim, span, wanted in ((2, branch.rows, rows), (3, branch.cols, cols)):
        if span.total == wanted.total:
            values = values.narrow(dim, wanted.start - span.start, wanted.length)
            continue
        low, high, weight = (
            torch.from_numpy(x).to(values.device) for x in interpolation(wanted, span.total, values.dtype)
        )
        shape = [1, 1, 1, 1]
        shape[dim] = wanted.length
        first = values.index_select(dim, low - span.start)
        second = values.index_select(dim, high - span.start)
        values = first.lerp_(second, weight.to(values.dtype).reshape(shape))
    return values


def _fuse_tiles(
    fusion: Fusion, decoder: ImplicitDecoder, branches: Sequence[Patch], rows: Span, cols: Span, projected: Tensor
) -> None:
    """Tiles, the convolution before the resize."""
    conv = fusion.join.conv
    assert conv.bias is not None  # of the normalisation
    first, *others = branches
    first_weight, *weights = torch.split(conv.weight, [branch.values.shape[1] for branch in branches], dim=1)
    first_weight = first_weight.contiguous(memory_format=torch.channels_last)
    resizes = [TapResize(branch, weight, rows, cols) for branch, weight in zip(others, weights, strict=True)]
    by_feature = decoder.first.weight[:, : decoder.channels].T

    def work(tile: tuple[Span, Span]) -> None:
        within = tile[0].within(rows), tile[1].within(cols)
        joined = F.conv2d(_padded(first, *tile), first_weight, conv.bias).movedim(1, -1).flatten(0, 2)
        for resize in resizes:
            joined += resize(*within)
        shape = tile[0].length, tile[1].length, -1
        projected[within] = (joined.relu_().to(projected.dtype) @ by_feature).view(shape)

    share_out(lambda: work, list(itertools.product(_cut(rows, _TILE[0]), _cut(cols, _TILE[1]))))


def _cut(span: Span, length: int) -> list[Span]:
    """A span in parts of at most so many lines."""
    return [Span(start, min(start + length, span.stop), span.total) for start in range(span.start, span.stop, length)]


def _padded(branch: Patch, rows: Span, cols: Span) -> Tensor:
    """A part of a map with one cell around it, zero outside the map."""
    around = rows.grow(1), cols.grow(1)
    top, left = (1 - (span.start - wide.start) for span, wide in zip((rows, cols), around, strict=True))
    bottom, right = (1 - (wide.stop - span.stop) for span, wide in zip((rows, cols), around, strict=True))
    return F.pad(branch.cut(*around).values, (left, right, top, bottom))
