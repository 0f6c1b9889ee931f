"""Weights files turned back into the authors' checkpoints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import segscape
from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.convert import to_official
from segscape.checkpoints.store import read_weights, write_weights
from segscape.cli.main import main
from tests.golden import fill
from tests.references.bisestdc import NETWORKS, official_state
from tests.references.common import GOLDEN


@pytest.fixture
def inference_weights(tmp_path: Path) -> Path:
    """A weights file of `stdc1_seg` without the heads that only training uses."""
    network = segscape.create_model("stdc1_seg", 2)
    state = {
        key: value
        for key, value in network.state_dict().items()
        if key.split(".")[0] not in network.parts.training_only
    }
    card = WeightsCard("stdc1_seg", ("ground", "building"), ((0, 0, 0), (255, 0, 0)), network.normalisation)
    write_weights(tmp_path / "inference.safetensors", card, state)
    return tmp_path / "inference.safetensors"


@pytest.mark.parametrize("variant", NETWORKS)
def test_same_names_and_values(variant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official, name = official_state(variant), NETWORKS[variant]
    source, ours, back = tmp_path / "source.pth", tmp_path / "ours.safetensors", tmp_path / "back.pth"
    torch.save({"state_dict": official}, source)
    assert main(["convert", name, str(source), str(ours)]) == 0
    assert main(["convert", name, str(ours), str(back), "--to-official"]) == 0
    assert f"{len(official)} entries written" in capsys.readouterr().out
    restored = torch.load(back, weights_only=True)
    assert restored.keys() == official.keys()
    assert all(torch.equal(restored[key], official[key]) for key in official)


def test_a_refiner_comes_back_with_the_stage_that_it_never_uses(tmp_path: Path) -> None:
    keys = json.loads((GOLDEN / "crm" / "keys_crm.json").read_text())
    # As the authors save it: with the prefix, and without a wrapper.
    official = {key: torch.from_numpy(value) for key, value in fill.state_dict(keys).items()}
    source, ours, back = tmp_path / "model_45705", tmp_path / "ours.safetensors", tmp_path / "back.pth"
    torch.save(official, source)
    assert main(["convert", "crm_resnet50", str(source), str(ours)]) == 0
    card, state = read_weights(ours)
    assert card.class_names == ("foreground",)
    assert not any("layer4" in key for key in state)
    assert main(["convert", "crm_resnet50", str(ours), str(back), "--to-official"]) == 0
    restored = torch.load(back, weights_only=True)
    assert {f"module.{key}" for key in restored} == official.keys()
    assert all(torch.equal(restored[key.removeprefix("module.")], value) for key, value in official.items())


def test_weights_of_our_own_have_official_names(tmp_path: Path) -> None:
    network = segscape.create_model("stdc1_seg", 4)
    official = to_official("stdc1_seg", network.state_dict())
    again = segscape.convert_checkpoint("stdc1_seg", official)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(again[key], value, rtol=1e-5, atol=1e-5)
    assert torch.equal(official["cp.backbone.x2.0.0.conv.weight"], official["cp.backbone.features.0.conv.weight"])


def test_heads_that_were_not_kept_are_missed_aloud(
    inference_weights: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    back = tmp_path / "back.pth"
    assert main(["convert", "stdc1_seg", str(inference_weights), str(back), "--to-official"]) == 0
    assert "lacks 21 entries of heads that only training uses, such as aux16." in capsys.readouterr().err
    assert not any(key.startswith("conv_out16.") for key in torch.load(back, weights_only=True))


def test_kept_entries_are_no_part_of_the_network(tmp_path: Path) -> None:
    source, ours = tmp_path / "source.pth", tmp_path / "ours.safetensors"
    torch.save(official_state("stdc1"), source)
    assert main(["convert", "stdc1_seg", str(source), str(ours)]) == 0
    card, state = read_weights(ours)
    assert card.origin == "STDC-Seg"
    assert state.keys() == segscape.create_model("stdc1_seg", 19).state_dict().keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stdc2_seg", "WEIGHTS", "out.pth", "--to-official"], "weights of stdc1_seg, not of stdc2_seg"),
        (["stdc1_seg", "WEIGHTS", "out.tar", "--to-official"], "ends in .pth"),
        (
            ["stdc1_seg", "WEIGHTS", "out.pth", "--to-official", "--origin", "BiSeSTDC"],
            "no format of BiSeSTDC; it has STDC-Seg",
        ),
        (["stdc1_seg", "nowhere", "out.pth", "--to-official"], "no weights nowhere"),
        (["stdc1_seg", "a.pth", "out.safetensors", "--origin", "STDC-Seg"], "goes with --to-official"),
    ],
)
def test_command_explains(inference_weights: Path, tmp_path: Path, capsys, arguments: list[str], message: str) -> None:
    network, source, name, *more = arguments
    output = tmp_path / name
    source = str(inference_weights) if source == "WEIGHTS" else source
    assert main(["convert", network, source, str(output), *more]) == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("back", [True, False])
def test_a_full_disk_leaves_nothing(back: bool, inference_weights: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\nfrom segscape.cli.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))\nsys.exit(main(sys.argv[1:]))"
    )
    source = inference_weights
    if not back:
        source = tmp_path / "official.pth"
        state = segscape.create_model("stdc1_seg", 2).state_dict()
        torch.save({"state_dict": to_official("stdc1_seg", state)}, source)
    target = tmp_path / "out" / ("back.pth" if back else "new.safetensors")
    words = ["convert", "stdc1_seg", str(source), str(target), *(["--to-official"] if back else [])]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error:" in done.stderr
    assert "cannot be written" in done.stderr
    assert str(target) in done.stderr.replace("\n", "")
    assert not list(target.parent.iterdir())


def test_weights_that_are_no_numbers_are_not_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = segscape.create_model("dabnet_resnet18_p1", 2).state_dict()
    next(value for value in state.values() if value.ndim == 4)[0, 0] = float("nan")
    torch.save(to_official("dabnet_resnet18_p1", state), tmp_path / "a.pth")
    assert main(["convert", "dabnet_resnet18_p1", str(tmp_path / "a.pth"), str(tmp_path / "a.safetensors")]) == 1
    assert "holds values that are no numbers" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
