"""Winograd's convolution F(4 x 4, 3 x 3), compiled by Numba when it is first used.

A tile of 4 x 4 outputs of a convolution with 3 x 3 weights takes 144 multiplications for every pair of channels.
Winograd's algorithm takes 36. The input transform turns the tile's 6 x 6 inputs into 36 numbers by additions ("spread"
in this file), each of them is multiplied by one of the weights' 36 transformed numbers, and the output transform turns
the products into the outputs by additions ("gather"). Over all channels and many tiles, the multiplications are 36
products of matrices.

A block of tiles is spread, multiplied and gathered while it is in the processor's cache.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (arXiv:1509.09308), section 4.1.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from numba import types
from numba.extending import register_jitable
from numba.np.numpy_support import carray

from segscape.runtime.machine_code import callback, compiled
from segscape.runtime.winograd.native import (
    LANES,
    copy_lanes,
    floats_at,
    indices_at,
    limit_threads,
    multiply,
    run_in_threads,
    thread_count,
    thread_index,
    wait_for_all,
)

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_OUT = 4
_IN = _OUT + 2
_PRODUCTS = _IN * _IN

_BLOCK = 4 << 20
"""The size of a block's transformed inputs and products in bytes, so that they fit in the cache that the processor's
cores share."""
_LEAST_TILES = 64
"""The lower bound of a block's tiles: each weight that is read for a block is used at least so often."""
_PART = 64
"""The upper bound of the tiles in one product of matrices, so that there are enough products for all threads."""

# The matrix of the weights' transform, G in the paper.
_FOR_WEIGHTS = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
    ]
    + [[0, 0, 1]]
)

_ARRAYS = ("images", "weights", "bias", "rows", "cols", "spread", "products", "outputs")
_NUMBERS = (
    "count",
    "height",
    "width",
    "channels",
    "out_channels",
    "num_rows",
    "num_cols",
    "above",
    "left",
    "dilation",
    "block",
    "relu",
)
_JOB = np.dtype([(name, np.int64) for name in (*_ARRAYS, *_NUMBERS)])
"""The argument of the threads of one convolution: the addresses of the arrays, and their sizes."""


def transformed(weights: npt.NDArray[np.float64]) -> Floats:
    """Transform weights (K, C, 3, 3) into those that `convolve` takes, (36, C, K)."""
    spread = np.einsum("ai,kcij,bj->abck", _FOR_WEIGHTS, weights, _FOR_WEIGHTS)
    return np.ascontiguousarray(spread.reshape(_PRODUCTS, *spread.shape[2:]), np.float32)


def convolve(
    images: Floats, weights: Floats, bias: Floats, *, padding: tuple[int, int], dilation: int, relu: bool
) -> Floats:
    """Compute a convolution with 3 x 3 weights and stride 1, in PyTorch's threads.

    Args:
        images: (N, H, W, C), contiguous, C a multiple of `LANES`.
        weights: (36, C, K), as `transformed` returns them, K a multiple of `LANES`.
        bias: (K,).
        padding: Rows of zeros before the first row and behind the last, and likewise columns.
        dilation: Dilation of the weights.
        relu: Whether negative outputs are set to 0.

    Returns:
        (N, H + 2 (padding - dilation), W + 2 (padding - dilation), K), contiguous.
    """
    count, height, width, channels = images.shape
    out_channels = len(bias)
    out_height, out_width = height + 2 * (padding[0] - dilation), width + 2 * (padding[1] - dilation)
    rows, cols = _tile_starts(out_height, dilation), _tile_starts(out_width, dilation)
    tiles = count * len(rows) * len(cols)
    # An odd number of tiles: otherwise the 36 places that a tile is spread to might compete for the same cache lines.
    block = min(tiles, max(_LEAST_TILES, _BLOCK // (4 * _PRODUCTS * (channels + out_channels)))) | 1
    # From PyTorch, which takes memory in large pages.
    spread = torch.empty(_PRODUCTS, block, channels).numpy()
    products = torch.empty(_PRODUCTS, block, out_channels).numpy()
    outputs = torch.empty(count, out_height, out_width, out_channels).numpy()
    arrays = (images, weights, bias, rows, cols, spread, products, outputs)
    sizes = (count, height, width, channels, out_channels, len(rows), len(cols), *padding, dilation, block, relu)
    # The threads get one pointer. The arrays behind it live until the call returns, which waits for all threads.
    job = np.array([(*(array.ctypes.data for array in arrays), *sizes)], _JOB)
    run_in_threads(_work_address(), job.ctypes.data)
    return outputs


def _tile_starts(length: int, dilation: int) -> Indices:
    """Return the first row of each tile, or likewise the first column.

    A tile's 4 rows lie `dilation` apart; together the tiles cover every row of an image once.
    """
    places = np.arange(length, dtype=np.int64)
    return places[places // dilation % _OUT == 0]


@register_jitable(inline="always")
def _spread_columns(numbers: Floats, spread: Floats) -> None:
    """Multiply the columns of (6, 6, lanes) by the matrix for inputs, B^T in the paper, and transpose."""
    two, four, five = np.float32(2), np.float32(4), np.float32(5)
    for j in range(_IN):
        for lane in range(LANES):
            a, b, c = numbers[0, j, lane], numbers[1, j, lane], numbers[2, j, lane]
            d, e, f = numbers[3, j, lane], numbers[4, j, lane], numbers[5, j, lane]
            # Sums that two rows of the matrix share.
            even, odd = e - four * c, d - four * b
            near_even, near_odd = e - c, two * (d - b)
            spread[j, 0, lane] = four * a - five * c + e
            spread[j, 1, lane] = even + odd
            spread[j, 2, lane] = even - odd
            spread[j, 3, lane] = near_even + near_odd
            spread[j, 4, lane] = near_even - near_odd
            spread[j, 5, lane] = four * b - five * d + f


@register_jitable(inline="always")
def _gather_columns(products: Floats, sums: Floats) -> None:
    """Multiply the columns of (6, n, lanes) by the matrix for outputs, A^T in the paper; transpose to (n, 4, lanes)."""
    two, four, eight = np.float32(2), np.float32(4), np.float32(8)
    for j in range(products.shape[1]):
        for lane in range(LANES):
            a, b, c = products[0, j, lane], products[1, j, lane], products[2, j, lane]
            d, e, f = products[3, j, lane], products[4, j, lane], products[5, j, lane]
            inner, inner_odd, outer, outer_odd = b + c, b - c, d + e, d - e
            sums[j, 0, lane] = a + inner + outer
            sums[j, 1, lane] = inner_odd + two * outer_odd
            sums[j, 2, lane] = inner + four * outer
            sums[j, 3, lane] = inner_odd + eight * outer_odd + f


@compiled
def _spread(
    images: Floats, rows: Indices, cols: Indices, dilation: int, start: int, first: int, stop: int, spread: Floats
) -> None:
    """Write the transformed inputs of tiles to places `first` to `stop` of (36, n, C); place 0 is the tile `start`."""
    height, width, channels = images.shape[1:]
    reach = (_IN - 1) * dilation
    # The compiler knows the strides of arrays that are created here: only then does it vectorise the additions.
    tile = np.empty((_IN, _IN, LANES), np.float32)
    half = np.empty((_IN, _IN, LANES), np.float32)
    for place in range(first, stop):
        line, col = divmod(start + place, len(cols))
        image, row = divmod(line, len(rows))
        top, left = rows[row], cols[col]
        # Most tiles lie inside the image, so that their pixels need no tests one by one.
        inside = top >= 0 and left >= 0 and top + reach < height and left + reach < width
        for channel in range(0, channels, LANES):
            for i in range(_IN):
                y = top + i * dilation
                for j in range(_IN):
                    x = left + j * dilation
                    if inside or (0 <= y < height and 0 <= x < width):
                        copy_lanes(images, (image, y, x, channel), tile, (i, j, 0))
                    else:
                        tile[i, j] = 0
            # The first call transforms the columns; since it transposes, the second one transforms the rows.
            _spread_columns(tile, half)
            _spread_columns(half, tile)
            for i in range(_IN):
                for j in range(_IN):
                    copy_lanes(tile, (i, j, 0), spread, (i * _IN + j, place, channel))


@compiled
def _multiply(left: Floats, right: Floats, count: int, first: int, stop: int, products: Floats) -> None:
    """Compute some parts of the 36 products of the first `count` rows of (36, n, C) with (36, C, K)."""
    # BLAS expects matrices stored by columns and so reads ours as their transposes. As (A B)^T = B^T A^T, the factors
    # are passed in reverse order.
    plain = np.full(1, ord("N"), np.uint8).ctypes
    inner, outer = right.shape[1:]
    sizes = np.array([outer, 0, inner], np.int32)
    k, n, c = sizes.ctypes, sizes[1:].ctypes, sizes[2:].ctypes
    scales = np.array([1, 0], np.float32)
    one, zero = scales.ctypes, scales[1:].ctypes
    in_product = -(-count // _PART)
    for part in range(first, stop):
        index, row = part // in_product, part % in_product * _PART
        sizes[1] = min(_PART, count - row)
        a, b = right[index].ctypes, left[index, row:].ctypes
        multiply(plain, plain, k, n, c, one, a, k, b, c, zero, products[index, row:].ctypes, k)


@compiled
def _gather(
    products: Floats,
    bias: Floats,
    least: np.float32,
    rows: Indices,
    cols: Indices,
    dilation: int,
    start: int,
    first: int,
    stop: int,
    outputs: Floats,
) -> None:
    """Write the outputs of tiles from places `first` to `stop` of the products (36, n, K); place 0 is the tile `start`.

    No output is lower than `least`.
    """
    height, width, channels = outputs.shape[1:]
    tile = np.empty((_IN, _IN, LANES), np.float32)
    half = np.empty((_IN, _OUT, LANES), np.float32)
    whole = np.empty((_OUT, _OUT, LANES), np.float32)
    for place in range(first, stop):
        line, col = divmod(start + place, len(cols))
        image, row = divmod(line, len(rows))
        top, left = rows[row], cols[col]
        for channel in range(0, channels, LANES):
            for i in range(_IN):
                for j in range(_IN):
                    copy_lanes(products, (i * _IN + j, place, channel), tile, (i, j, 0))
            _gather_columns(tile, half)
            _gather_columns(half, whole)
            for i in range(_OUT):
                y = top + i * dilation
                for j in range(_OUT):
                    x = left + j * dilation
                    # The last tiles may reach beyond the image.
                    if y < height and x < width:
                        for lane in range(LANES):
                            value = whole[i, j, lane] + bias[channel + lane]
                            whole[i, j, lane] = least if value < least else value
                        copy_lanes(whole, (i, j, 0), outputs, (image, y, x, channel))


def _work(pointer: Any) -> None:
    """Compute one thread's part of a convolution: tiles to spread and to gather, products to compute."""
    job = carray(pointer, 1)[0]
    images = carray(floats_at(job.images), (job.count, job.height, job.width, job.channels))
    weights = carray(floats_at(job.weights), (_PRODUCTS, job.channels, job.out_channels))
    bias = carray(floats_at(job.bias), job.out_channels)
    rows = carray(indices_at(job.rows), job.num_rows)
    cols = carray(indices_at(job.cols), job.num_cols)
    spread = carray(floats_at(job.spread), (_PRODUCTS, job.block, job.channels))
    products = carray(floats_at(job.products), (_PRODUCTS, job.block, job.out_channels))
    out_height, out_width = (
        job.height + 2 * (job.above - job.dilation),
        job.width + 2 * (job.left - job.dilation),
    )
    outputs = carray(floats_at(job.outputs), (job.count, out_height, out_width, job.out_channels))
    least = np.float32(0) if job.relu else np.float32(-np.inf)
    own, threads = thread_index(), thread_count()
    # All threads multiply at once, so none of them may start further ones for a product.
    before = limit_threads(np.int32(1))
    tiles = job.count * job.num_rows * job.num_cols
    for start in range(0, tiles, job.block):
        count = min(job.block, tiles - start)
        first, stop = count * own // threads, count * (own + 1) // threads
        _spread(images, rows - job.above, cols - job.left, job.dilation, start, first, stop, spread)
        wait_for_all()
        parts = _PRODUCTS * -(-count // _PART)
        _multiply(spread, weights, count, parts * own // threads, parts * (own + 1) // threads, products)
        wait_for_all()
        # No wait is needed after this step: the next block first writes `spread`, which was last read before the wait
        # above, and writes `products` only after a wait of its own.
        _gather(products, bias, least, rows, cols, job.dilation, start, first, stop, outputs)
    limit_threads(before)


@cache
def _work_address() -> int:
    return callback(types.void(types.CPointer(numba.from_dtype(_JOB))), _work)  # type: ignore[no-untyped-call]
