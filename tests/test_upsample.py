"""Upsampling with arg-max beside PyTorch's two steps: on CPUs, as a CUDA kernel, and in windows."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import segscape
from segscape.geometry.interval import Interval
from segscape.geometry.resample import interpolation
from segscape.geometry.window import Window
from segscape.segmentation.upsampling import blocks, cells
from segscape.segmentation.upsampling.argmax import Upsampling, upsample_argmax

LAYOUTS = ("planes", "channels last", "strided")
CASES = [
    (5, (3, 5), (9, 40), False),
    (7, (2, 30), (3, 300), True),
    (1, (1, 1), (3, 2), False),
    (256, (6, 4), (2, 3), True),
]
"""Classes, sizes of logits and labels, and align_corners, for the ways other than the CPU's own."""

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
side = st.integers(1, 9)
long_side = st.integers(1, 70)


def _logits(num_classes: int, size: tuple[int, int], seed: int, layout: str = "planes") -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if layout == "planes":
        return torch.randn(num_classes, *size, generator=generator)
    if layout == "channels last":
        return torch.randn(*size, num_classes, generator=generator).permute(2, 0, 1)
    return torch.randn(size[1] + 2, num_classes, 2 * size[0], generator=generator).permute(1, 2, 0)[:, ::2, 1:-1]


def _interpolate(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    full = F.interpolate(logits[None].contiguous(), size, mode="bilinear", align_corners=align_corners)
    return full[0]


def _shortfall(labels: Tensor, full: Tensor) -> float:
    """By how much the logits of the chosen classes fall short of the largest: rounding, if they tie."""
    assert labels.dtype == torch.uint8
    assert labels.shape == full.shape[1:]
    return float((full.max(0).values - full.gather(0, labels.long()[None])[0]).max())


@settings(max_examples=100, deadline=None)
@given(
    num_classes=st.sampled_from([1, 2, 3, 7, 19, 150, 256]),
    source=st.tuples(side, side),
    size=st.tuples(long_side, long_side),
    align_corners=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 9),
)
def test_labels_and_confidence_equal_pytorch_s(num_classes, source, size, align_corners, layout, seed) -> None:
    logits = _logits(num_classes, source, seed, layout)
    full = _interpolate(logits, size, align_corners)
    upsampling = Upsampling(source, size, align_corners)
    assert _shortfall(upsampling.argmax(logits), full) < 1e-5
    _assert_confidence(upsampling.confidence(5 * logits), 5 * full)


def _assert_confidence(confidence: Tensor, full: Tensor) -> None:
    assert confidence.dtype == torch.uint8
    exact = 255 * full.double().softmax(0).max(0).values
    assert float((confidence - exact).abs().max()) < 0.5 + 1e-3


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    source=st.tuples(side, side),
    size=st.tuples(long_side, long_side),
    align_corners=st.booleans(),
    num_classes=st.sampled_from([2, 11]),
)
def test_windows_equal_the_whole_to_the_bit(data, source, size, align_corners, num_classes) -> None:
    logits = 3 * _logits(num_classes, source, 1)
    row, col = (data.draw(st.integers(0, side - 1)) for side in size)
    window = Window(row, col, data.draw(st.integers(1, size[0] - row)), data.draw(st.integers(1, size[1] - col)))
    upsampling = Upsampling(source, size, align_corners)
    held = upsampling.reads(window)
    part = logits[:, *held.slices]
    for compute in (upsampling.argmax, upsampling.confidence, upsampling.scores):
        assert torch.equal(compute(part, window=window, held=held), compute(logits)[..., *window.slices])


@settings(max_examples=40, deadline=None)
@given(source=st.tuples(side, side), size=st.tuples(long_side, long_side), align_corners=st.booleans())
def test_no_other_logits_are_needed(source, size, align_corners) -> None:
    upsampling = Upsampling(source, size, align_corners)
    window = Window(size[0] // 3, size[1] // 2, size[0] - size[0] // 3, size[1] - size[1] // 2)
    logits = _logits(3, source, 2)
    spoilt = torch.full_like(logits, torch.nan)
    held = upsampling.reads(window)
    spoilt[:, *held.slices] = logits[:, *held.slices]
    assert torch.equal(upsampling.argmax(spoilt, window=window), upsampling.argmax(logits, window=window))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_are_identical_on_smooth_logits(align_corners: bool, layout: str) -> None:
    smooth = F.interpolate(_logits(19, (5, 9), 3)[None], (64, 128), mode="bicubic")[0]
    logits = _logits(19, (64, 128), 0, layout).copy_(smooth)
    labels = upsample_argmax(logits, (509, 1021), align_corners=align_corners)
    full = _interpolate(logits, (509, 1021), align_corners)
    assert int((labels != full.argmax(0)).sum()) <= 3
    assert _shortfall(labels, full) < 1e-5


@pytest.mark.parametrize("weights", [name for name in segscape.list_weights() if name.startswith("stdc")])
def test_labels_are_identical_on_a_network_s_logits(weights: str, street_frame: Path) -> None:
    segmenter = segscape.Segmenter.from_weights(weights, device="cpu")
    size = 128, 192
    pixels = torch.from_numpy(np.array(Image.open(street_frame).convert("RGB"))[: size[0], : size[1]])
    with torch.inference_mode():
        logits = segmenter.network(segmenter.card.normalisation(pixels.permute(2, 0, 1)[None]))[0]
    for align_corners in (True, False):
        full = _interpolate(logits, size, align_corners)
        upsampling = Upsampling((logits.shape[1], logits.shape[2]), size, align_corners)
        labels = upsampling.argmax(logits)
        assert int((labels != full.argmax(0)).sum()) <= 1
        assert _shortfall(labels, full) < 1e-5
        _assert_confidence(upsampling.confidence(logits), full)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("source", [3750, 3749, 300])
def test_positions_are_pytorch_s_on_long_lines(align_corners: bool, source: int) -> None:
    total = 30_000
    logits = _logits(2, (1, source), 4)
    full = _interpolate(logits, (1, total), align_corners)
    assert _shortfall(upsample_argmax(logits, (1, total), align_corners=align_corners), full) < 1e-6
    lines = interpolation(Interval(0, total), total, source, torch.float32, align_corners=align_corners)
    line = np.arange(total)
    exact = line * (source - 1) / (total - 1) if align_corners else ((line + 0.5) * source / total - 0.5).clip(min=0)
    assert np.abs(lines.low + lines.weight - exact).max() * total / source < 0.003


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions(dtype: torch.dtype) -> None:
    logits = _logits(6, (7, 8), 5).to(dtype)
    labels = upsample_argmax(logits, (50, 60), align_corners=False)
    assert _shortfall(labels, _interpolate(logits.double(), (50, 60), align_corners=False)) < 1e-5


def test_any_number_of_threads_gives_the_same() -> None:
    logits, upsampling = _logits(7, (30, 20), 12), Upsampling((30, 20), (933, 370), align_corners=True)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append((upsampling.argmax(logits), upsampling.confidence(logits)))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *results))


def test_equal_classes_give_the_first_and_absent_ones_never_win() -> None:
    logits = _logits(4, (6, 6), 6)
    logits[2] = logits[1]
    logits[0] = -torch.inf
    assert set(upsample_argmax(logits, (40, 40), align_corners=True).unique().tolist()) <= {1, 3}
    assert not upsample_argmax(torch.zeros(9, 2, 2), (40, 40), align_corners=True).any()


def test_logits_that_need_gradients() -> None:
    logits = _logits(3, (4, 4), 7).requires_grad_()
    assert not upsample_argmax(logits, (9, 9), align_corners=True).requires_grad


def test_logits_of_more_than_2_31_elements(tmp_path: Path) -> None:
    num_classes, height, width = 3, 4, 5
    plane = 2**30 + 7
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        opened.truncate(4 * num_classes * plane)
    values = torch.from_file(str(file), shared=True, size=num_classes * plane)
    logits = values.as_strided((num_classes, height, width), (plane, width, 1))
    logits.copy_(_logits(num_classes, (height, width), 8))
    expected = upsample_argmax(logits.clone(), (30, 40), align_corners=False)
    assert torch.equal(upsample_argmax(logits, (30, 40), align_corners=False), expected)


def test_labels_of_more_than_2_31_pixels() -> None:
    upsampling = Upsampling((6250, 6250), (50_000, 50_000), align_corners=False)
    window = Window(49_990, 49_980, 10, 20)
    held = upsampling.reads(window)
    assert (held.stop_row, held.stop_col) == (6250, 6250)
    logits = _logits(5, held.size, 9)
    small = Upsampling(held.size, (8 * held.height, 8 * held.width), align_corners=False)
    expected = small.argmax(logits)[-10:, -20:]
    assert torch.equal(upsampling.argmax(logits, window=window, held=held), expected)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block_bytes", [1, 5000])
def test_row_blocks_equal_pytorch_s(case, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(blocks._BLOCK_BYTES, "cpu", block_bytes)
    _check_kernels(blocks, *case)


def _check_kernels(kernels, num_classes, source, size, align_corners) -> None:
    """Compare a way of upsampling with PyTorch's, on logits of all layouts."""
    for layout in LAYOUTS:
        logits = 4 * _logits(num_classes, source, 10, layout)
        rows, cols = (
            interpolation(Interval(0, total), total, lines, torch.float32, align_corners=align_corners)
            for total, lines in zip(size, source, strict=True)
        )
        full = _interpolate(logits, size, align_corners)
        assert _shortfall(kernels.argmax(logits, rows, cols), full) < 1e-5
        _assert_confidence(kernels.confidence(logits, rows, cols), full)


def check_interpreted_kernel() -> None:
    """For a process in which Triton interprets its kernels, which it decides when it is imported."""
    from segscape.segmentation.upsampling import pixels_triton

    for case in CASES:
        _check_kernels(pixels_triton, *case)


@needs_triton
def test_interpreted_kernel_equals_pytorch_s() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", "from tests.test_upsample import check_interpreted_kernel; check_interpreted_kernel()"],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr


@needs_triton
@pytest.mark.parametrize(("class_stride", "confidence"), [("i32", True), ("i64", False), ("constexpr", False)])
def test_kernel_compiles_for_a_gpu_with_offsets_of_64_bits(class_stride: str, confidence: bool) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from segscape.segmentation.upsampling.pixels_triton import _fill_pixels

    types = {"logits": "*fp32", "filled": "*u8", "class_stride": class_stride}
    types |= {f"{axis}_{end}": "*i64" for axis in ("row", "col") for end in ("low", "high")}
    types |= {"row_weight": "*fp32", "col_weight": "*fp32", "confidence": "constexpr", "block": "constexpr"}
    constants = {"confidence": confidence, "block": 256} | ({"class_stride": 1} if class_stride == "constexpr" else {})
    signature = {name: types.get(name, "i32") for name in _fill_pixels.arg_names}
    source = ASTSource(fn=_fill_pixels, signature=signature, constexprs=constants)
    code = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ttir"]
    offsets = re.findall(r"%(?:(?:top|bottom)_\w+ = tt.addptr|.* tt.addptr %filled).*", code)
    assert len(offsets) >= 5
    assert all("i64" in line for line in offsets)


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", CASES)
def test_kernel_on_a_gpu(case) -> None:
    num_classes, source, size, align_corners = case
    for layout in LAYOUTS:
        logits = 4 * _logits(num_classes, source, 10, layout)
        upsampling = Upsampling(source, size, align_corners)
        full = _interpolate(logits, size, align_corners)
        assert _shortfall(upsampling.argmax(logits.cuda()).cpu(), full) < 1e-5
        _assert_confidence(upsampling.confidence(logits.cuda()).cpu(), full)


def test_bad_requests_are_refused() -> None:
    upsampling = Upsampling((4, 4), (32, 32), align_corners=False)
    logits = torch.zeros(2, 4, 4)
    with pytest.raises(ValueError, match="every side needs a pixel"):
        upsample_argmax(torch.zeros(2, 0, 4), (8, 8), align_corners=True)
    with pytest.raises(ValueError, match="256 classes apart, not 257"):
        upsample_argmax(torch.zeros(257, 2, 2), (8, 8), align_corners=True)
    with pytest.raises(ValueError, match="empty or reaches beyond"):
        upsampling.reads(Window(30, 0, 3, 32))
    with pytest.raises(ValueError, match="The logits are of 4 x 4, but"):
        upsampling.argmax(logits, held=Window(0, 0, 2, 4))
    with pytest.raises(ValueError, match=r"only .* is held"):
        upsampling.argmax(logits[:, :2], window=Window(16, 0, 2, 32), held=Window(0, 0, 2, 4))


def _run(code: str, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return finished.stdout


def test_compilers_are_imported_when_they_are_needed() -> None:
    modules = _run("import sys, segscape; segscape.Segmenter; import segscape.scenes.scene; print(*sys.modules)")
    assert not {"numba", "triton"} & set(modules.split())


@pytest.mark.parametrize("writable", [True, False])
def test_machine_code_is_kept_where_a_folder_can_be_written_to(writable: bool, tmp_path: Path) -> None:
    code = """
import json, os, numba.core.caching as caching
caching.CacheImpl._locator_classes = [caching.UserProvidedCacheLocator]
from segscape.segmentation.upsampling.argmax import load_kernels, upsample_argmax
load_kernels()
from segscape.segmentation.upsampling.cell_kernels import fill_labels
import torch
labels = upsample_argmax(torch.eye(4).view(4, 2, 2), (4, 4), align_corners=True)
print(json.dumps([labels.tolist(), sum(fill_labels.stats.cache_hits.values())]))
"""
    folder = str(tmp_path / "cache") if writable else "/dev/null/nowhere"
    hits = []
    for _ in range(2 if writable else 1):
        labels, count = json.loads(_run(code, NUMBA_CACHE_DIR=folder))
        assert labels == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2
        hits.append(count)
    assert hits == ([0, 1] if writable else [0])


@given(
    st.integers(1, 24),
    side,
    side,
    long_side,
    long_side,
    st.booleans(),
    st.integers(0, 2**16),
    st.sampled_from([0, 1, 2]),
)
@settings(max_examples=60, deadline=None)
def test_the_first_map_of_a_process_is_as_any_other(
    classes: int, h: int, w: int, height: int, width: int, align: bool, seed: int, kind: int
) -> None:
    """In plain PyTorch, where the compiled loops are not worth loading: the same to the bit, equal logits too."""
    logits = _logits(classes, (h, w), seed)
    logits = [logits, (2 * logits).round() / 2, 1 + logits * 1e-6][kind]
    rows, cols = (
        interpolation(Interval(0, wanted), wanted, source, torch.float32, align_corners=align)
        for wanted, source in ((height, h), (width, w))
    )
    assert torch.equal(blocks.argmax(logits, rows, cols), cells.argmax(logits, rows, cols))
