"""What `segscape benchmark` and the scripts of `make bench` report, and that nothing they run is left out."""

import importlib
import json
import os
import statistics
import sys
from pathlib import Path
from statistics import fmean
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import segscape
from segscape.benchmark import measure as measuring
from segscape.benchmark.cost import network_cost
from segscape.benchmark.entry import Entry, as_row
from segscape.benchmark.measure import MeasurementError, measure, measure_apart
from segscape.benchmark.plot import plot_speed
from segscape.benchmark.protocol import Protocol, Timing
from segscape.checkpoints.shipped import find_weights, read_card
from segscape.cli.commands.benchmark import cost_table, time_table
from segscape.cli.main import main

QUICK = Protocol(warm_up=1, repeats=2)
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def _entry(name: str, *, runtime: str = "torch", precision: str = "auto") -> Entry:
    return Entry(name, (64, 96), runtime, precision, "cpu", torch.get_num_threads(), QUICK)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """Imports one of the scripts of the folder `benchmarks`."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@given(st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=50))
def test_all_runs_count(seconds: list[float]) -> None:
    timing = Timing.of(seconds)
    assert timing.median_ms == pytest.approx(1000 * statistics.median(seconds))
    assert timing.p90_ms == pytest.approx(1000 * statistics.quantiles(seconds, n=10, method="inclusive")[8])
    assert timing.per_second == pytest.approx(1 / statistics.median(seconds))


@given(st.integers(0, 5), st.integers(1, 5))
def test_a_protocol_runs_a_fixed_number(warm_up: int, repeats: int) -> None:
    calls: list[str] = []
    seconds = Protocol(warm_up, repeats).time(
        lambda: calls.append("run"), synchronise=lambda: calls.append("wait"), on_run=lambda: calls.append("done")
    )
    assert calls == ["wait", "run", "wait", "done"] * (warm_up + repeats)
    assert len(seconds) == repeats


def test_table_json_and_plot(tmp_path: Path, capsys) -> None:
    """A runtime that cannot be had here costs its row alone."""
    output, plot = tmp_path / "results" / "benchmark.json", tmp_path / "plot.png"
    words = [
        "benchmark",
        "scapenet_lite0.street",
        "--sizes",
        "64x96",
        "--runtimes",
        "torch",
        "tensorrt",
        "--device",
        "cpu",
    ]
    words += ["--repeats", "2", "--warm-up", "1", "--output", str(output), "--plot", str(plot)]
    assert main(words) == 3
    shown = capsys.readouterr()
    assert "1 of 2 could not be measured" in shown.out
    assert "tensorrt" in shown.err
    assert "GPU" in shown.err
    report = json.loads(output.read_text())
    assert report["protocol"]["repeats"] == 2
    assert report["versions"]["torch"] == torch.__version__.split("+")[0]
    assert report["machine"]["threads"] == torch.get_num_threads()
    row, failed = report["rows"]
    cost = network_cost("scapenet_lite0", num_classes=11, size=(64, 96))
    assert (row["parameters"], row["macs"]) == (cost.parameters, cost.macs)
    assert (row["runtime"], row["precision"], row["size"]) == ("torch", "fp32", [64, 96])
    assert set(row["timings"]) == {"network", "labels", "file"}
    assert all(0 < timing["median_ms"] <= timing["p90_ms"] for timing in row["timings"].values())
    assert 0 < row["start_mib"] <= row["peak_mib"]
    scores = read_card(find_weights("scapenet_lite0.street")).score
    assert row["miou"] == pytest.approx(fmean(value for name, value in scores.items() if name.startswith("miou")))
    assert failed["asked_runtime"] == "tensorrt"
    assert "timings" not in failed
    assert Image.open(plot).width > 500
    assert [path.name for path in output.parent.iterdir()] == ["benchmark.json"]


def test_networks_have_random_weights_and_refiners_are_refined() -> None:
    runs = []
    segmenting = measure(_entry("isdnet_resnet18"), on_run=lambda: runs.append("segment"))
    refining = measure(_entry("crm_resnet18"), on_run=lambda: runs.append("refine"))
    assert runs == ["segment"] * 3 * QUICK.runs + ["refine"] * 2 * QUICK.runs
    assert (segmenting.network, segmenting.num_classes) == ("isdnet_resnet18", 19)
    assert set(refining.timings) == {"labels", "file"}
    assert refining.parameters == sum(p.numel() for p in segscape.create_model("crm_resnet18").parameters())
    assert refining.macs
    rows = [as_row(_entry("isdnet_resnet18"), refining, score=None)]
    assert time_table(rows, QUICK).row_count == cost_table(rows).row_count == 1
    with pytest.raises(ValueError, match="torch alone"):
        measure(_entry("crm_resnet18", runtime="openvino"), on_run=lambda: None)
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_speed(rows, Path("unused.png"))


def _die(*_: object) -> None:
    os._exit(9)


def test_a_process_that_dies_costs_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_report", _die)
    with pytest.raises(MeasurementError, match="status 9"):
        measure_apart(_entry("stdc1_seg"), on_run=lambda: None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no_such_network"], "no weights no_such_network"),
        (["stdc1_seg", "--repeats", "0"], "at least one run"),
        (["stdc1_seg", "--plot", "plot.png"], "card states an mIoU"),
        (["stdc1_seg", "--device", "quantum"], "device quantum cannot be used"),
    ],
)
def test_what_cannot_be_measured(words: list[str], message: str, capsys) -> None:
    assert main(["benchmark", *words]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("size", ["512", "0x512", "512x", "²x2", "512X1024", "-1x5"])
def test_sizes_that_are_none(size: str, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["benchmark", "stdc1_seg", f"--sizes={size}"])
    assert "HEIGHTxWIDTH" in capsys.readouterr().err


def test_training_heads_leave_the_logits_alone(script) -> None:
    pipelines = script("pipelines")
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = pipelines.load("isdnet_resnet18")(images)
        assert torch.equal(pipelines.with_all_heads(pipelines.load("isdnet_resnet18"))(images), expected)


def test_side_by_side(script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    """Two pipelines take turns, one whose package is missing is named, and rows take the place of their like."""
    side_by_side = script("side_by_side")
    stub = tmp_path / "stub" / "segmentation_models_pytorch.py"
    stub.parent.mkdir()
    stub.write_text("raise ModuleNotFoundError('No such package')")
    output = tmp_path / "results.json"
    kept = {"network": "stdc1_seg", "size": [64, 128], "pipeline": "lean", "total_ms": 1.0}
    output.write_text(json.dumps({"rows": [kept, {**kept, "pipeline": "plain"}]}))
    monkeypatch.setenv("PYTHONPATH", str(stub.parent))
    monkeypatch.setattr(side_by_side, "PEERS", ("smp_unet_resnet18",))
    words = ["--only", "stdc1_seg@64x128", "--pipelines", "plain", "torch", "--peers", sys.executable, "--repeats", "2"]
    words += ["--warm-up", "1", "--files", "2", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["side_by_side.py", *words])
    side_by_side.main()
    shown = capsys.readouterr()
    assert "smp_unet_resnet18 is left out: ModuleNotFoundError: No such package" in shown.err
    assert "| torch |" in shown.out
    lean, plain, ours = json.loads(output.read_text())["rows"]
    assert lean == kept
    assert (plain["pipeline"], plain["images"], plain["times_plain"]) == ("plain", 2, 1.0)
    assert ours["times_plain"] == pytest.approx(plain["total_ms"] / ours["total_ms"], abs=0.01)
    assert ours["labels_agree"] > 0.999
    assert ours["pipelined_per_second"] > 0
    assert 0 < ours["outside_network"] < 1


def test_the_table_takes_its_place(script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    side_by_side = script("side_by_side")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{side_by_side.BEGIN}\nold\n{side_by_side.END}\nafter\n")
    monkeypatch.setattr(side_by_side, "PAGE", page)
    stages = {f"{stage}_ms": 2.0 for stage in side_by_side.STAGES}
    row = {"network": "stdc1_seg", "size": [512, 1024], "pipeline": "auto", "computes": "openvino bf16", **stages}
    row |= {"total_ms": 8.0, "total_p90_ms": 9.0, "times_plain": 5.5, "outside_network": 0.1, "peak_mib": 700}
    machine = {"processor": "a processor", "threads": 2}
    side_by_side.write_table({"machine": machine, "versions": {"torch": "2.15"}, "rows": [row]})
    text = page.read_text()
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "auto (openvino bf16)" in text
    assert "5.50 (>= 5.0)" in text


def test_gpu_script_on_a_cpu(script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ["--device", "cpu", "--tiny", "--output", str(tmp_path), "--only", "scapenet_lite0", "crm_resnet18"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words, "--pipelines", "official fp32", "torch fp32"])
    gpu = script("gpu")
    monkeypatch.setattr(gpu, "CASES", gpu.CASES[:1])
    gpu.main()
    [path] = tmp_path.iterdir()
    result = json.loads(path.read_text())
    assert set(result["ceilings"]["flops"]) == {"fp32", "tf32", "bf16"}
    assert [(row["name"], row["pipeline"]) for row in result["rows"]] == [
        ("scapenet_lite0", "official fp32"),
        ("scapenet_lite0", "torch fp32"),
        ("crm_resnet18", "torch fp32"),
    ]
    assert not [row for row in result["rows"] if "error" in row]
    official, deployed, _ = result["rows"]
    cost = network_cost("scapenet_lite0", num_classes=11, size=(64, 128))
    assert deployed["gflop"] == pytest.approx(2 * cost.macs / 1e9, abs=1e-3)
    assert official["gflop"] > deployed["gflop"]
    assert official["logits_error"] < 1e-4
    assert official["labels_agree"] == 1
    shown = script("gpu_table").table(result)
    assert shown.count("| official fp32 |") == 1
    assert f"{deployed['network']['per_second'] / official['network']['per_second']:.2f}" in shown


def test_gpu_script_stops_in_time(script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ["--device", "cpu", "--tiny", "--output", str(tmp_path), "--only", "bisestdc", "--minutes", "0"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    script("gpu").main()
    [path] = tmp_path.iterdir()
    result = json.loads(path.read_text())
    assert result["rows"] == []
    assert len(result["left_out"]) == 12
    assert "Time was too short for: bisestdc 64x128 official fp32" in script("gpu_table").table(result)


def test_traffic_of_one_convolution(script) -> None:
    """Inputs, weights and outputs: 3 x 8 x 10, 5 x 3 x 3 x 3 and 5 x 4 x 5 numbers; FLOP as of the definition."""
    gpu = script("gpu")
    network = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False, device="meta")
    cost = gpu.count(network, (8, 10))
    assert cost.elements == 3 * 8 * 10 + 5 * 3 * 3 * 3 + 5 * 4 * 5
    assert cost.flops == 2 * 5 * 4 * 5 * 27
    ceilings = gpu.Ceilings({"fp32": 1e9, "tf32": 1e12, "bf16": 1e9}, 1e9)
    row = gpu.roofline(cost, "torch bf16", ceilings, per_second=1000.0)
    assert row["compute_ms"] == pytest.approx(1000 * cost.flops / 1e9, abs=1e-4)
    assert row["share_of_roofline"] == pytest.approx(max(cost.flops, 2 * cost.elements) / 1e6, abs=1e-4)
    assert np.isclose(row["mbytes"], 2 * cost.elements / 1e6, atol=1e-3)
