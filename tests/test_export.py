"""Exported files: what they compute, what they say of themselves, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import segscape
from segscape.arguments.values import size_or_dynamic
from segscape.checkpoints.card import FOREGROUND, WeightsCard
from segscape.checkpoints.shipped import find_weights, read_card
from segscape.cli.main import main
from segscape.export import write
from segscape.export.metadata import CARD_KEY, GRAPH_KEY, SUFFIXES, GraphMetadata
from segscape.export.read import ExportedGraph, load_exported, open_exported
from segscape.export.verify import Verification, verify
from segscape.export.write import export_network
from segscape.networks import SegmentationNetwork
from segscape.normalisation import Normalisation
from segscape.registry import list_models
from segscape.runtime.graphs import least_traced_side, onnx_model
from segscape.segmentation.upsampling.argmax import upsample_argmax

WEIGHTS = "scapenet_lite0.street"
FIXED = (96, 128)


class Coarse(SegmentationNetwork):
    """The least that is a segmentation network: one convolution to three classes at stride 8."""

    stride = 8

    def __init__(self, *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 9, stride=8, padding=4)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


def card(network: str = "stdc1_seg") -> WeightsCard:
    return WeightsCard(network, ("sky", "straße", "tree"), ((0, 0, 9), (0, 9, 0), (9, 0, 0)), Normalisation())


@pytest.fixture
def network() -> Coarse:
    return Coarse(align_corners=True).eval()


@pytest.fixture(scope="module")
def coarse_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dynamic file of each format, returning logits."""
    folder = tmp_path_factory.mktemp("coarse")
    for suffix in SUFFIXES:
        export_network(Coarse(align_corners=True).eval(), card(), folder / f"coarse{suffix}", size=None)
    return folder


def frame(size: tuple[int, int], camvid_examples: Path) -> np.ndarray:
    path = sorted((camvid_examples / "images" / "val").iterdir())[0]
    return np.asarray(Image.open(path).resize(size[::-1]))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(96, 136), None])
def test_labels_are_those_of_upsample_argmax(
    tmp_path: Path, suffix: str, align_corners: bool, size: tuple[int, int] | None
) -> None:
    network = Coarse(align_corners=align_corners).eval()
    path = tmp_path / f"coarse{suffix}"
    verification = export_network(network, card(), path, size=size, labels=True)
    assert verification.labels
    assert verification.passed
    runtime, _, _ = load_exported(path, "cpu")
    for shape in [size] if size else [(97, 131), (64, 200)]:
        images = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1))
        labels = runtime(images)
        assert labels.dtype == torch.uint8
        with torch.inference_mode():
            expected = [upsample_argmax(x, shape, align_corners=align_corners) for x in network(images)]
        assert (labels == torch.stack(expected)).float().mean() >= 0.9999


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 3), height=st.integers(64, 150), width=st.integers(64, 150))
def test_dynamic_files_take_any_size(coarse_files: Path, count: int, height: int, width: int) -> None:
    images = torch.randn(count, 3, height, width)
    with torch.inference_mode():
        expected = Coarse(align_corners=True)(images)
    for suffix in SUFFIXES:
        runtime, _, _ = load_exported(coarse_files / f"coarse{suffix}", "cpu")
        torch.testing.assert_close(runtime(images), expected, rtol=1e-4, atol=1e-4)


def test_least_sides(coarse_files: Path) -> None:
    small = torch.randn(1, 3, 8, 40)
    for suffix in (".onnx", ".xml"):
        assert load_exported(coarse_files / f"coarse{suffix}", "cpu")[0](small).shape == (1, 3, 1, 5)
    with pytest.raises(ValueError, match="takes images with sides from 9 pixels on, not of 8 x 40"):
        load_exported(coarse_files / "coarse.pt2", "cpu")[0](small)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_card_and_metadata_come_back(coarse_files: Path, suffix: str) -> None:
    path = coarse_files / f"coarse{suffix}"
    graph = open_exported(path, "cpu")
    assert graph.card == card()
    # Its one map has a second row from 9 pixels on.
    least = 9 if suffix == ".pt2" else 1
    assert graph.metadata == GraphMetadata(
        "logits", None, size_multiple=1, min_size=least, stride=8, align_corners=True
    )
    assert graph.fingerprint == open_exported(path, "cpu").fingerprint
    assert str(Path(segscape.__file__).parents[1]).encode() not in path.read_bytes()


def test_metadata_without_our_code(coarse_files: Path) -> None:
    names = onnxruntime.InferenceSession(coarse_files / "coarse.onnx", providers=["CPUExecutionProvider"])
    assert [port.name for port in (*names.get_inputs(), *names.get_outputs())] == ["images", "logits"]
    assert names.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert json.loads(names.get_modelmeta().custom_metadata_map[GRAPH_KEY])["stride"] == 8
    model = openvino.Core().read_model(coarse_files / "coarse.xml")
    assert [port.any_name for port in (*model.inputs, *model.outputs)] == ["images", "logits"]
    assert json.loads(model.get_rt_info([CARD_KEY]).astype(str))["class_names"][1] == "straße"
    extra = {GRAPH_KEY: ""}
    torch.export.load(coarse_files / "coarse.pt2", extra_files=extra)
    assert json.loads(extra[GRAPH_KEY])["align_corners"] is True


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torch"])
def test_from_weights_to_label_maps(
    tmp_path: Path, camvid_examples: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix = next(suffix for suffix, known in SUFFIXES.items() if known == kind)
    path, photo = tmp_path / f"street{suffix}", tmp_path / "photo.png"
    words = ["export", WEIGHTS, "--format", kind, "--size", "96x128", "--labels", "--output", str(path)]
    assert main(words) == 0
    assert "labels equal PyTorch's, on real images: 1 of 96x128" in capsys.readouterr().out
    Image.fromarray(frame(FIXED, camvid_examples)).save(photo)
    assert main(["segment", str(photo), "--weights", str(path), "--full-size", "--output", str(tmp_path / "out")]) == 0
    labels = np.asarray(Image.open(tmp_path / "out" / "photo.png"))
    segmenter = segscape.Segmenter.from_weights(WEIGHTS, "cpu", working_size=None)
    expected = segmenter.segment(frame(FIXED, camvid_examples)).labels
    assert (labels == expected).mean() >= 0.999
    assert open_exported(path, "cpu").card == read_card(find_weights(WEIGHTS))


def test_fixed_size_files_refuse_larger_images(tmp_path: Path, network: Coarse) -> None:
    path = tmp_path / "small.pt2"
    export_network(network, card(), path, size=(64, 72))
    segmenter = segscape.Segmenter.from_weights(path, "cpu")
    with pytest.raises(ValueError, match="up to 64 x 72 pixels"):
        segmenter.segment(np.zeros((65, 72, 3), np.uint8))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("labels", [False, True])
def test_failed_check_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Coarse, suffix: str, labels: bool
) -> None:
    wrong = Coarse(align_corners=True).eval()
    nn.init.ones_(wrong.conv.weight)
    monkeypatch.setattr(write, "deploy", lambda _: wrong)
    with pytest.raises(ValueError, match="was not written"):
        export_network(network, card(), tmp_path / f"wrong{suffix}", size=(64, 64), labels=labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exact", [True, False])
def test_rounding_that_a_network_blows_up_is_no_fault_of_the_file(exact: bool, network: Coarse) -> None:
    """Off from PyTorch in float32, a file is held against float64."""

    class Rounding(Coarse):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return 1.001 * logits if images.dtype == torch.float32 else logits

    rounding = Rounding(align_corners=True).eval()
    factor = 1.0 if exact else 1.002
    metadata = GraphMetadata("logits", FIXED, 1, 1, 8, True)
    graph = ExportedGraph(
        "torch", card(), metadata, "", torch.device("cpu"), lambda inputs: factor * network(*inputs).detach()
    )
    verification = verify(graph, rounding)
    assert verification.passed == exact
    assert (verification.worst < 1e-6) == exact


def test_a_failed_check_keeps_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Coarse
) -> None:
    path = tmp_path / "kept.pt2"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(write, "verify", lambda *_: Verification(labels=False, errors={(1, 64, 64): 1.0}))
    with pytest.raises(ValueError, match=r"worst error 1\.0e\+00 .* the limit is an error of 1e-04"):
        export_network(network, card(), path, size=(64, 64))
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_not_a_number_is_an_error(tmp_path: Path) -> None:
    broken = Coarse(align_corners=True).eval()
    nn.init.constant_(broken.conv.bias, float("nan"))
    with pytest.raises(ValueError, match="worst error inf"):
        export_network(broken, card(), tmp_path / "nan.pt2", size=(64, 64))


def test_sizes_that_do_not_fit(tmp_path: Path) -> None:
    with torch.device("meta"):
        patches = segscape.create_model("dabnet_resnet18_p2", 3)
    with pytest.raises(ValueError, match="multiples of 64, not 100x128; the next size is 128x128"):
        export_network(patches, card("dabnet_resnet18_p2"), tmp_path / "patches.onnx", size=(100, 128))
    with torch.device("meta"):
        pyramid = segscape.create_model("isdnet_resnet18", 3)
    with pytest.raises(ValueError, match="at least 5 pixels"):
        export_network(pyramid, card("isdnet_resnet18"), tmp_path / "pyramid.onnx", size=(3, 128))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command says that fails with one sentence."""
    assert main(list(words)) == 1
    return capsys.readouterr().err


def test_refused_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ("--size", "64x64", "--output")
    onnx_file = str(tmp_path / "a.onnx")
    assert "ends in .xml; rename" in run(capsys, "export", WEIGHTS, "--format", "openvino", *how, onnx_file)
    wrong = str(tmp_path / "a.engine")
    assert "ends in .onnx (onnx), .xml (openvino), .pt2 (torch)" in run(
        capsys, "export", WEIGHTS, "--format", "onnx", *how, wrong
    )
    assert "There are no weights nothing" in run(capsys, "export", "nothing", "--format", "onnx", *how, onnx_file)
    (tmp_path / "file").write_text("")
    below = str(tmp_path / "file" / "a.onnx")
    assert "file" in run(capsys, "export", WEIGHTS, "--format", "onnx", *how, below)
    (tmp_path / "folder.onnx").mkdir()
    assert "is a folder" in run(capsys, "export", WEIGHTS, "--format", "onnx", *how, str(tmp_path / "folder.onnx"))
    refiner = ("export", "crm_efficientnet_lite0.objects", "--format", "onnx", "--labels")
    assert "has no labels" in run(capsys, *refiner, *how, onnx_file)


@pytest.mark.parametrize(
    ("package", "kind", "suffix", "extra"),
    [("onnxscript", "onnx", ".onnx", "onnx"), ("openvino", "openvino", ".xml", "openvino")],
)
def test_missing_package(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
    kind: str,
    suffix: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    target = str(tmp_path / f"a{suffix}")
    said = run(capsys, "export", WEIGHTS, "--format", kind, "--size", "64x64", "--output", target)
    assert f"needs the package {package}: pip install 'segscape[{extra}]'" in " ".join(said.split())
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, signal, sys
from segscape.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("limit", [20_000, 1_000_000])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_nothing(suffix: str, limit: int, tmp_path: Path) -> None:
    target = tmp_path / "out" / f"a{suffix}"
    words = ["export", WEIGHTS, "--format", SUFFIXES[suffix], "--size", "64x64", "--output", str(target)]
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(limit), *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"error: {target} " in " ".join(done.stderr.split())
    assert ".partial" not in done.stderr
    assert "MB are free in" in done.stderr
    assert not list(target.parent.iterdir())


def test_too_little_room_is_refused_before_the_network_is_traced(tmp_path: Path, network: Coarse, monkeypatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10))
    monkeypatch.setattr(write, "onnx_model", None)
    with pytest.raises(OSError, match=r"a.onnx cannot be written: its weights take .* MB; 0 MB are free in"):
        export_network(network, card(), tmp_path / "a.onnx", size=(64, 64))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".bin"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_truncated_files(tmp_path: Path, coarse_files: Path, suffix: str, share: float) -> None:
    for path in coarse_files.iterdir():
        content = path.read_bytes()
        cut = int(len(content) * share) if path.suffix == suffix else len(content)
        (tmp_path / path.name).write_bytes(content[:cut])
    damaged = tmp_path / f"coarse{'.xml' if suffix == '.bin' else suffix}"
    with pytest.raises(ValueError, match="cannot be read, it may be cut short or damaged"):
        load_exported(damaged, "cpu")


def test_files_that_are_not_ours(tmp_path: Path, coarse_files: Path, network: Coarse) -> None:
    onnx.save_model(onnx_model(network, size=(64, 64)), tmp_path / "plain.onnx")
    with pytest.raises(ValueError, match="has no Segscape card; make it with `segscape export`"):
        load_exported(tmp_path / "plain.onnx", "cpu")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_exported(tmp_path / "missing.pt2", "cpu")
    (tmp_path / "alone.xml").write_bytes((coarse_files / "coarse.xml").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"alone\.bin, which .*alone\.xml needs"):
        load_exported(tmp_path / "alone.xml", "cpu")
    with pytest.raises(ValueError, match="cannot run on meta here"):
        load_exported(coarse_files / "coarse.onnx", "meta")


def test_metadata_of_another_version(tmp_path: Path, coarse_files: Path) -> None:
    model = onnx.load_model(coarse_files / "coarse.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    newer = json.dumps({**json.loads(metadata[GRAPH_KEY]), "version": 2})
    onnx.helper.set_model_props(model, {**metadata, GRAPH_KEY: newer})
    onnx.save_model(model, tmp_path / "newer.onnx")
    with pytest.raises(ValueError, match="of version 2 and this program reads version 1"):
        load_exported(tmp_path / "newer.onnx", "cpu")


@given(
    st.builds(
        GraphMetadata,
        output=st.sampled_from(["logits", "labels"]),
        size=st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
        size_multiple=st.integers(1, 512),
        min_size=st.integers(1, 1024),
        stride=st.integers(1, 32),
        align_corners=st.booleans(),
    )
)
def test_traits_come_back(metadata: GraphMetadata) -> None:
    assert GraphMetadata.from_json(metadata.to_json()) == metadata


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"version": 1}', '{"version": 1, "size": [3]}'])
def test_damaged_traits(text: str) -> None:
    with pytest.raises(ValueError, match=r"damaged|Expecting"):
        GraphMetadata.from_json(text)


@given(st.integers(1, 99999), st.integers(1, 99999))
def test_sizes_are_height_by_width(height: int, width: int) -> None:
    assert size_or_dynamic(f"{height}x{width}") == (height, width)


@pytest.mark.parametrize("text", ["", "x", "64", "64x", "0x64", "64x-3", "64X64x3", "Dynamic", "64 x 64"])
def test_texts_that_are_no_size(text: str) -> None:
    with pytest.raises(Exception, match="is no size; write HEIGHTxWIDTH"):
        size_or_dynamic(text)


def test_refiner_is_one_stage(tmp_path: Path, refiner_weights: Path) -> None:
    network = segscape.create_model("crm_resnet18", weights=refiner_weights)
    refiner = WeightsCard("crm_resnet18", normalisation=Normalisation(), **FOREGROUND)
    path = tmp_path / "refiner.pt2"
    assert export_network(network, refiner, path, size=(64, 80)).passed
    images, masks = torch.randn(1, 3, 64, 80), torch.rand(1, 1, 64, 80) * 2 - 1
    with torch.inference_mode():
        expected = network(images, masks, size=(64, 80))
    torch.testing.assert_close(open_exported(path, "cpu").run((images, masks)), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="holds crm_resnet18, which does not segment images"):
        load_exported(path, "cpu")


@pytest.mark.heavy
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", [*list_models(), *list_models(task="refinement")])
def test_every_network(tmp_path: Path, name: str, suffix: str) -> None:
    torch.manual_seed(0)
    refines = name in list_models(task="refinement")
    network = segscape.create_model(name, None if refines else 3)
    if refines:  # a fresh one that adds to its mask adds nothing
        torch.nn.init.normal_(network.decoder.last.weight)
    classes = {**FOREGROUND} if refines else {"class_names": ("a", "b", "c"), "palette": ((0, 0, 0),) * 3}
    own = WeightsCard(name, normalisation=Normalisation(), **classes)
    assert export_network(network, own, tmp_path / f"any{suffix}", size=None).passed
    if not refines:
        side = least_traced_side(network)
        assert export_network(network, own, tmp_path / f"fixed{suffix}", size=(side, side), labels=True).passed
