"""Every engine gives what PyTorch gives, and the fastest of those that do is found."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import segscape
from segscape.checkpoints.card import WeightsCard
from segscape.choices import Precision
from segscape.networks import SegmentationNetwork
from segscape.normalisation import Normalisation
from segscape.rasters.image import read_image
from segscape.runtime import cache, choice, machine
from segscape.runtime import onnx as onnx_module
from segscape.runtime import openvino as openvino_module
from segscape.runtime.base import Deployed, Runtime, RuntimeUnavailableError
from segscape.runtime.create import create_runtime
from segscape.runtime.deploy import deploy
from segscape.segmentation.calibration import MOST_IMAGES, calibration_of
from segscape.segmentation.segmenter import Segmenter

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

LIGHT = {"stdc1_seg"}
ENGINES = ["openvino", "onnx"]


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory) -> Iterator[Path]:
    """A cache that only these tests use."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGSCAPE_CACHE", str(folder))
        yield folder


def _network(name: str = "stdc1_seg") -> SegmentationNetwork:
    """Untrained, for 5 classes; its normalisations are not the identity."""
    torch.manual_seed(0)
    network = segscape.create_model(name, 5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.running_mean)
    return network


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    return _network()


@pytest.fixture(scope="module")
def deployed(network: SegmentationNetwork) -> Deployed:
    return Deployed(deploy(network))


@pytest.fixture(scope="module")
def card() -> WeightsCard:
    palette = tuple((40 * index, 0, 0) for index in range(5))
    return WeightsCard("stdc1_seg", ("a", "b", "c", "d", "e"), palette, Normalisation())


def _error(runtime: Runtime, network: SegmentationNetwork, images: Tensor) -> float:
    """The largest error of a logit, as a share of the largest logit."""
    with torch.inference_mode():
        expected = network(images)
    logits = runtime(images)
    assert logits.dtype == torch.float32
    assert logits.shape == expected.shape
    return float((logits - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in LIGHT else pytest.mark.heavy) for name in segscape.list_models()]
)
def test_every_network_gives_the_same(name: str, engine: str) -> None:
    network = _network(name)
    runtime = create_runtime(engine, Deployed(deploy(network)))
    assert (runtime.name, runtime.precision, runtime.device.type) == (engine, "fp32", "cpu")
    for count, height, width in ((1, 96, 128), (2, 61, 83), (1, 130, 70), (1, 1, 1), (1, 33, 200)):
        images = torch.randn(count, 3, *network.fitting_size(height, width))
        assert _error(runtime, network, images) < 1e-4, f"{count} x {height} x {width}"


@pytest.fixture(scope="module", params=ENGINES)
def runtime(request, deployed: Deployed) -> Runtime:
    return create_runtime(request.param, deployed)


@given(size=st.tuples(st.integers(1, 150), st.integers(1, 150)), channels_last=st.booleans())
@settings(max_examples=20, deadline=None)
def test_any_size_in_any_layout(size: tuple[int, int], channels_last: bool, runtime: Runtime, network) -> None:
    images = torch.randn(1, 3, *size)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    assert _error(runtime, network, images) < 1e-4


def test_a_result_is_kept_when_the_next_is_computed(runtime: Runtime) -> None:
    first = runtime(torch.randn(1, 3, 64, 64))
    copied = first.clone()
    runtime(torch.randn(1, 3, 64, 64))
    assert torch.equal(first, copied)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_real_photograph_of_odd_size(engine: str, network, card: WeightsCard, camvid_examples: Path) -> None:
    image = read_image(sorted((camvid_examples / "images" / "val").iterdir())[0])[:201, :143]
    plain, found = (Segmenter(network, card, device="cpu", runtime=name).segment(image) for name in ("torch", engine))
    assert (found.labels == plain.labels).mean() >= 0.9999


@pytest.mark.heavy
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled(precision: Precision, network: SegmentationNetwork, deployed: Deployed) -> None:
    runtime = create_runtime("compile", deployed, precision=precision)
    for size in ((64, 96), (61, 83)):
        limit = 1e-4 if precision == "fp32" else 0.1
        assert _error(runtime, network, torch.randn(1, 3, *size)) < limit


def test_bfloat16(network: SegmentationNetwork, deployed: Deployed) -> None:
    runtime = create_runtime("torch", deployed, precision="bf16")
    assert 1e-6 < _error(runtime, network, torch.randn(1, 3, 61, 83)) < 0.1
    assert next(deployed.network.parameters()).dtype == torch.float32


def test_int8(network: SegmentationNetwork, card: WeightsCard, camvid_examples: Path) -> None:
    pytest.importorskip("nncf")
    frames = [read_image(path) for path in sorted((camvid_examples / "images" / "val").iterdir())[:2]]
    plain = Segmenter.from_weights("scapenet_lite0.street", "cpu")
    made = Segmenter.from_weights(
        "scapenet_lite0.street", "cpu", runtime="openvino", precision="int8", calibration=frames
    )
    agreement = (made.segment(frames[0]).labels == plain.segment(frames[0]).labels).mean()
    assert 0.97 < agreement < 1
    with pytest.raises(RuntimeUnavailableError, match="give their folder as --calibration"):
        Segmenter(network, card, device="cpu", runtime="openvino", precision="int8")


def test_calibration_images_are_spread_and_told_apart(network: SegmentationNetwork) -> None:
    images = [np.full((8, 8, 3), shade, np.uint8) for shade in range(100)]
    calibration = calibration_of(images, network, Normalisation())
    shades = [round(float(read()[0, 0, 0, 0]) * 0.229 * 255 + 0.485 * 255) for read in calibration.images]
    assert len(shades) == MOST_IMAGES
    assert (shades[0], shades[-1]) == (0, 96)
    assert max(np.diff(shades)) <= 4
    again = calibration_of(images, network, Normalisation())
    other = calibration_of(images[::-1], network, Normalisation())
    assert again.digest == calibration.digest != other.digest


def test_of_a_large_image_the_middle_is_taken(network: SegmentationNetwork) -> None:
    image = np.zeros((1100, 2200, 3), np.uint8)
    image[38:-38, 76:-76] = 255
    (read,) = calibration_of([image], network, Normalisation()).images
    assert read().shape == (1, 3, 1024, 2048)
    assert read().min() > 0


class _Fake(Runtime):
    """Gives some logits after some time."""

    def __init__(self, logits: Tensor, *, seconds: float = 0.0, precision: Precision = "fp32") -> None:
        self.name, self.precision, self.device = "fake", precision, torch.device("cpu")
        self._logits, self._seconds = logits, seconds

    def __call__(self, images: Tensor) -> Tensor:
        time.sleep(self._seconds)
        return self._logits


RIGHT = torch.tensor([[[[4.0, 0.0]], [[0.0, 1.0]]]])


def _missing() -> Runtime:
    raise RuntimeError("its library is not there\nTraceback")


def test_the_fastest_that_is_right_is_taken() -> None:
    candidates = {
        ("slow", "fp32"): lambda: _Fake(RIGHT, seconds=0.04),
        ("fast", "fp32"): lambda: _Fake(RIGHT + 1e-5, seconds=0.005),
        ("wrong", "fp32"): lambda: _Fake(RIGHT + 1e-3),
        ("flipped", "bf16"): lambda: _Fake(RIGHT.flip(1), precision="bf16"),
        ("empty", "fp32"): lambda: _Fake(RIGHT * float("nan")),
        ("small", "fp32"): lambda: _Fake(RIGHT[..., :1]),
        ("missing", "fp32"): _missing,
    }
    found, made = choice.fastest(candidates, _Fake(RIGHT, seconds=0.02), probe=torch.zeros(1, 3, 8, 16))
    assert (made.name, made.precision) == ("fast", "fp32")
    assert found(torch.zeros(1)) is not RIGHT
    assert "times as fast as fake fp32 (probe 8 x 16)" in str(made)
    told = "\n".join(made.others)
    assert "wrong fp32: its logits are off by 2.5e-04 of the largest" in told
    assert "flipped bf16: only 0.00% of its labels are right" in told
    assert "missing fp32: its library is not there" in told
    assert "Traceback" not in told
    assert {"slow fp32", "fake fp32", "empty fp32", "small fp32"} <= {line.partition(":")[0] for line in made.others}


def test_shorter_numbers_need_equal_labels_only() -> None:
    candidates = {("short", "bf16"): lambda: _Fake(RIGHT * 1.01, precision="bf16")}
    _, made = choice.fastest(candidates, _Fake(RIGHT, seconds=0.02), probe=torch.zeros(1, 3, 8, 16))
    assert made.precision == "bf16"


def test_the_reference_stays_where_nothing_is_faster() -> None:
    reference = _Fake(RIGHT)
    probe = torch.zeros(1, 3, 8, 16)
    found, made = choice.fastest({("slow", "fp32"): lambda: _Fake(RIGHT, seconds=0.02)}, reference, probe=probe)
    assert found is reference
    assert "nothing else here outruns" in made.reason
    with pytest.raises(RuntimeUnavailableError, match="No runtime does here: missing bf16: its library"):
        choice.fastest({("missing", "bf16"): _missing}, reference, probe=probe, may_keep=False)


def test_a_choice_is_remembered(deployed: Deployed, cache_folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(choice, "_PROBE", (64, 128))
    found, made = choice.choose_runtime(deployed)
    assert made.name in {"torch", "winograd", "openvino", "onnx"}
    assert (found.name, found.precision) == (made.name, made.precision)
    (kept,) = cache_folder.glob("choice-*.bin")
    monkeypatch.setattr(choice, "fastest", None)
    again, same = choice.choose_runtime(deployed)
    assert (again.name, same) == (found.name, made)
    assert json.loads(kept.read_bytes()[32:])["name"] == made.name


def test_a_choice_of_precision(deployed: Deployed, monkeypatch) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda: "flags : avx2")
    with pytest.raises(RuntimeUnavailableError, match="leave out --precision"):
        choice.choose_runtime(deployed, precision="bf16")
    with pytest.raises(RuntimeUnavailableError, match="Only the runtime openvino computes in int8"):
        choice.choose_runtime(deployed, precision="int8")
    assert all(kind == "fp32" for _, kind in choice._candidates(deployed, None))
    monkeypatch.setattr(machine, "_cpuinfo", lambda: "flags : avx512_bf16 avx2")
    assert ("openvino", "bf16") in choice._candidates(deployed, None)


def test_what_was_compiled_is_kept(deployed: Deployed, network, tmp_path: Path, monkeypatch, caplog) -> None:
    compiled = openvino_module._compile(deployed, "fp32")
    made = []
    monkeypatch.setenv("SEGSCAPE_CACHE", str(tmp_path))
    monkeypatch.setattr(openvino_module, "_compile", lambda *words: made.append(words) or compiled)
    for _ in range(2):
        create_runtime("openvino", deployed)
    assert len(made) == 1
    (kept,) = tmp_path.iterdir()
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    for damaged in (content, content[:1000], b""):
        kept.write_bytes(damaged)
        runtime = create_runtime("openvino", deployed)
        assert _error(runtime, network, torch.randn(1, 3, 64, 64)) < 1e-4
    assert len(made) == 4
    assert caplog.text.count("is damaged and is made again") == 3


def _receive_a_signal() -> None:
    deployed = Deployed(deploy(_network()))
    runtimes = [create_runtime("openvino", deployed) for _ in range(2)]
    while runtimes:
        runtimes.pop(0)
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.raise_signal(signal.SIGINT)


def test_a_process_whose_runtimes_are_gone_survives_signals() -> None:
    """The stack on which OpenVINO has signals handled is still there."""
    process = multiprocessing.get_context("spawn").Process(target=_receive_a_signal)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_cache_that_cannot_be_written(deployed: Deployed, tmp_path: Path, monkeypatch, caplog) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SEGSCAPE_CACHE", str(tmp_path / "file"))
    assert cache.cached("kind", {"a": 1}, lambda: b"made") == b"made"
    assert "SEGSCAPE_CACHE names another folder" in caplog.text


@given(payload=st.binary(), key=st.dictionaries(st.text(), st.integers()))
@settings(max_examples=30)
def test_cached_bytes_come_back(payload: bytes, key: dict[str, int], tmp_path_factory) -> None:
    cache.keep("kind", key, payload)
    assert cache.find("kind", key) == payload
    assert cache.cached("kind", key, lambda: payload + b"other") == payload
    assert cache.find("kind", {**key, "more": 0.5}) is None


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("torch", "int8", "torch computes on this device in fp32 or bf16, not in int8"),
        ("torch", "fp16", "torch computes on this device in fp32 or bf16, not in fp16"),
        ("compile", "int8", "compile computes on this device in fp32 or bf16, not in int8"),
        ("openvino", "fp16", "openvino computes in fp32, bf16, int8, not in fp16"),
        ("onnx", "bf16", "onnx computes in fp32, not in bf16"),
        ("tensorrt", "fp32", "tensorrt computes on an NVIDIA GPU, not on cpu"),
    ],
)
def test_what_cannot_be_had_is_refused(name: str, precision: Precision, message: str, deployed: Deployed) -> None:
    with pytest.raises(RuntimeUnavailableError, match=message):
        create_runtime(name, deployed, precision=precision)


def test_an_unknown_runtime(deployed: Deployed) -> None:
    with pytest.raises(ValueError, match="There is no runtime 'tvm'; the names are auto, torch, winograd, compile"):
        create_runtime("tvm", deployed)


def test_missing_packages_are_named(deployed: Deployed, monkeypatch) -> None:
    monkeypatch.setattr(openvino_module, "find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'segscape\[openvino\]'"):
        create_runtime("openvino", deployed)
    monkeypatch.setattr(onnx_module, "find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'segscape\[onnx\]'"):
        create_runtime("onnx", deployed)


def test_no_compiler(deployed: Deployed, monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match=r"needs a C\+\+ compiler"):
        create_runtime("compile", deployed)


def test_bf16_without_arithmetic_is_slow_or_refused(deployed: Deployed, monkeypatch, caplog) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda: "flags : avx2")
    create_runtime("torch", deployed, precision="bf16")
    assert "bf16 is slower here than fp32" in caplog.text
    with pytest.raises(RuntimeUnavailableError, match="only on CPUs that have bf16"):
        create_runtime("openvino", deployed, precision="bf16")


class _FixedSize(Runtime):
    """Gives the same class everywhere, for one size of images."""

    name, precision, device, size = "fixed", "fp32", torch.device("cpu"), (64, 96)

    def __init__(self, *, gives_labels: bool) -> None:
        self.gives_labels = gives_labels

    def __call__(self, images: Tensor) -> Tensor:
        assert images.shape == (1, 3, 64, 96)
        if self.gives_labels:
            return torch.full((1, 64, 96), 3, dtype=torch.uint8)
        return torch.nn.functional.one_hot(torch.full((1, 8, 12), 3), 5).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("gives_labels", [False, True])
def test_a_runtime_of_one_size(gives_labels: bool, network: SegmentationNetwork, card: WeightsCard) -> None:
    segmenter = Segmenter(network, card, runtime=_FixedSize(gives_labels=gives_labels))
    assert not segmenter.streams
    for size in ((64, 96), (50, 1)):
        labels = segmenter.segment(np.zeros((*size, 3), np.uint8)).labels
        assert labels.shape == size
        assert (labels == 3).all()
    with pytest.raises(ValueError, match=r"up to 64 x 96 pixels .* not of 64 x 97"):
        segmenter.segment(np.zeros((64, 97, 3), np.uint8))
