"""The fast parts of mask refinement beside plain ones: the decoder by strips and as a kernel, the fusion by tiles."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from benchmarks.published_crm import published_decoder
from hypothesis import given, settings
from torch import Tensor
from torch.nn import functional as F

from segscape.geometry.interval import Interval
from segscape.geometry.resample import interpolation
from segscape.geometry.window import Patch, Window
from segscape.networks.crm import CRM, Axis, Fusion, ImplicitDecoder, ResNetExtractor
from segscape.refinement.decoder import decode_block
from segscape.refinement.decoder_tables import Tables
from segscape.refinement.fusion import fuse
from segscape.refinement.workers import share_out
from segscape.runtime.deploy import deploy

CHANNELS = 16
GRIDS = [((6, 70), (4, 33)), ((5, 7), (1, 1)), ((1, 1), (1, 1)), ((1, 9), (1, 4)), ((9, 70), (3, 150))]
"""Sizes of points and features. In the last two, points stand on the centres of features at the border."""

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def _decoder(seed: int = 0, *, channels: int = CHANNELS) -> ImplicitDecoder:
    torch.manual_seed(seed)
    return ImplicitDecoder(channels).requires_grad_(False)


def _axes(size: tuple[int, int], features: tuple[int, int]) -> tuple[Axis, Axis]:
    rows, cols = (Axis.of(points, lines) for points, lines in zip(size, features, strict=True))
    return rows, cols


side = st.integers(1, 40)


@settings(max_examples=25, deadline=None)
@given(size=st.tuples(side, side), features=st.tuples(side, side), seed=st.integers(0, 9))
def test_decoder_equals_the_network_s(size: tuple[int, int], features: tuple[int, int], seed: int) -> None:
    decoder = _decoder(seed).double()
    values = torch.randn(1, CHANNELS, *features, dtype=torch.float64)
    ours = decode_block(decoder, decoder.project(values)[0], *_axes(size, features))
    torch.testing.assert_close(ours, decoder(values, size)[0, 0], rtol=0, atol=1e-13)


@pytest.mark.parametrize(("size", "features"), [((96, 128), (24, 32)), ((90, 130), (45, 65)), ((210, 150), (13, 10))])
def test_decoder_equals_the_published_form(size: tuple[int, int], features: tuple[int, int]) -> None:
    decoder = _decoder(channels=256)
    values = torch.randn(1, 256, *features)
    ours = decode_block(decoder, decoder.project(values)[0], *_axes(size, features))
    torch.testing.assert_close(ours, published_decoder(decoder, values, size), rtol=0, atol=1e-5)


def test_decoder_writes_some_lines_into_a_window_of_a_map() -> None:
    decoder, size, features = _decoder(), (200, 90), (50, 30)
    projected = torch.randn(*features, 32)
    rows, cols = _axes(size, features)
    chosen = torch.tensor([0, 3, 4, 70, 199])
    maps = torch.zeros(7, 200)
    written = decode_block(decoder, projected, rows.part(chosen), cols, out=maps[1:-1, 5:95])
    whole = decode_block(decoder, projected, rows, cols)
    assert torch.equal(maps[1:-1, 5:95], written)
    torch.testing.assert_close(written, whole[chosen], rtol=0, atol=1e-6)
    assert maps.count_nonzero() == written.count_nonzero()


def _kernel_error(size: tuple[int, int], features: tuple[int, int], device: str) -> float:
    """The largest difference of the kernel's logits from the plain decoder's, written into a map with other strides."""
    from segscape.refinement.decoder_triton import decode_tiles

    decoder = _decoder()
    projected = 3 * torch.randn(*features, 32)
    rows, cols = _axes(size, features)
    expected = decoder.decode(projected[None], rows, cols)[0, 0]
    out = torch.zeros(size[1], size[0] + 3, device=device).T[1:-2]
    on_device = decoder.to(device)
    tables = Tables.of(decoder, rows, cols, torch.float32)
    decode_tiles(on_device, projected.to(device), Tables(*(table.to(device) for table in tables)), out)
    return float((out.cpu() - expected).abs().max())


def print_kernel_errors() -> None:
    """For a process in which Triton interprets its kernels, which it decides when it is imported."""
    print(json.dumps([_kernel_error(*grid, "cpu") for grid in GRIDS]))


@needs_triton
def test_interpreted_kernel_equals_the_plain_decoder() -> None:
    command = "from tests.test_refinement_kernels import print_kernel_errors; print_kernel_errors()"
    finished = subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert max(json.loads(finished.stdout)) < 1e-6


@needs_triton
def test_kernel_compiles_for_a_gpu() -> None:
    from triton import compile as compiled
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from segscape.refinement.decoder_triton import _decode

    constants = {"area_floor": 1e-9, "layers": 3, "channels": 32, "block": 64}
    whole = {"out_row_stride", "out_col_stride", "cells_across", "height", "width"}
    types = {name: "i32" if name in whole else "*fp32" for name in _decode.arg_names}
    types |= {"row_cells": "*i32", "col_cells": "*i32", **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(fn=_decode, signature=types, constexprs=constants)
    assert "tt.dot" in compiled(source, target=GPUTarget("cuda", 90, 32)).asm["ttir"]


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("size", "features"), GRIDS)
def test_kernel_equals_the_plain_decoder(size: tuple[int, int], features: tuple[int, int]) -> None:
    assert _kernel_error(size, features, "cuda") < 1e-5


@cache
def _networks(dtype: torch.dtype) -> tuple[CRM, CRM]:
    """A small network and the same ready to run."""
    torch.manual_seed(0)
    network = CRM(ResNetExtractor(18), (4, 4, 8)).to(dtype)
    norm = network.fusion.join.bn
    for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        torch.nn.init.uniform_(values, 0.5, 1.5)
    return network.eval(), deploy(network)


class _Case:
    """Maps of an image (H, W) as the branches of a network leave them."""

    def __init__(self, size: tuple[int, int], dtype: torch.dtype) -> None:
        self.network, self.deployed = _networks(dtype)
        torch.manual_seed(0)
        sizes = [tuple(-(-lines // stride) for lines in size) for stride in (2, 4, 8)]
        self.maps = [torch.rand(1, width, *cells, dtype=dtype) for width, cells in zip((4, 4, 8), sizes, strict=True)]

    def expected(self) -> Tensor:
        """(h, w, 32) in the order of the network."""
        fusion: Fusion = self.network.fusion
        first, *others = self.maps
        resized = [F.interpolate(x, first.shape[-2:], mode="bilinear", align_corners=True) for x in others]
        with torch.no_grad():
            return self.network.decoder.project(fusion.join(torch.cat([first, *resized], dim=1)))[0]

    def fused(self, rows: tuple[int, int], cols: tuple[int, int], *, within: torch.dtype | None = None) -> Tensor:
        """The same for some rows and columns, from no more than what these need of the maps."""
        window = Window.of(Interval(*rows), Interval(*cols))
        sizes = [(values.shape[2], values.shape[3]) for values in self.maps]
        patches = []
        for values, size in zip(self.maps, sizes, strict=True):
            needed = [
                _needed(wanted, whole, side, values.dtype)
                for wanted, whole, side in zip((window.rows, window.cols), sizes[0], size, strict=True)
            ]
            patches.append(Patch(values.to(within or values.dtype), Window.whole(size)).cut(Window.of(*needed)))
        fusion = copy.deepcopy(self.deployed.fusion).to(within) if within else self.deployed.fusion
        return fuse(fusion, self.deployed.decoder, patches, sizes, window)


def _needed(wanted: Interval, whole: int, size: int, dtype: torch.dtype) -> Interval:
    """The rows of a map of `size` from which the wanted features, of `whole`, and one around them are mixed."""
    around = wanted.grown(1, whole)
    return around if whole == size else interpolation(around, whole, size, dtype).source


SIZES = [(1, 1), (2, 3), (1, 40), (9, 8), (70, 37), (61, 300)]


@pytest.mark.parametrize("size", SIZES)
def test_fused_whole_equals_the_network_s(size: tuple[int, int]) -> None:
    case = _Case(size, torch.float64)
    expected = case.expected()
    ours = case.fused((0, expected.shape[0]), (0, expected.shape[1]))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), size=st.tuples(st.integers(1, 90), st.integers(1, 300)))
def test_fused_block_equals_the_whole_s(data: st.DataObject, size: tuple[int, int]) -> None:
    case = _Case(size, torch.float64)
    expected = case.expected()
    starts = [data.draw(st.integers(0, lines - 1)) for lines in expected.shape[:2]]
    stops = [data.draw(st.integers(start + 1, lines)) for start, lines in zip(starts, expected.shape[:2], strict=True)]
    rows, cols = zip(starts, stops, strict=True)
    ours = case.fused(rows, cols)
    torch.testing.assert_close(ours, expected[slice(*rows), slice(*cols)], rtol=0, atol=1e-12)


@pytest.mark.parametrize("within", [torch.float32, torch.bfloat16])
def test_fused_in_lower_precision(within: torch.dtype) -> None:
    case = _Case((50, 62), torch.float32)
    expected = case.expected()
    ours = case.fused((3, 25), (0, 30), within=within)
    assert ours.dtype == torch.float32
    assert (ours - expected[3:25, :30]).abs().max() < 4 * torch.finfo(within).eps * expected.abs().max()


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_are_shared_out(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        done: list[int] = []
        seen: list[int] = []

        def prepare() -> object:
            seen.append(torch.get_num_threads())
            return done.append

        share_out(prepare, range(50))
        assert sorted(done) == list(range(50))
        assert seen == [1] * threads
        assert torch.get_num_threads() == threads
        with pytest.raises(ZeroDivisionError):
            share_out(lambda: lambda piece: 1 // piece, [1, 1, 0, 1])
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
