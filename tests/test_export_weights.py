"""Weights files of any checkpoint of a run, and the checkpoints that a run keeps."""

from pathlib import Path

import pytest
import torch
import yaml

import segscape
from segscape.checkpoints.shipped import read_card
from segscape.checkpoints.store import read_weights
from segscape.cli.main import main
from segscape.config_file import find_config, load_config
from tests.fake.data_sets import WRITERS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of BiSeSTDC by its recipe, made small: four steps, each measured and kept."""
    root = tmp_path_factory.mktemp("cityscapes")
    WRITERS["cityscapes"](root)
    run = tmp_path_factory.mktemp("runs") / "run"
    config = {
        "base": [str(find_config("bisestdc/cityscapes_50"))],
        "keep_every_n_steps": 1,
        "trainer": {
            "default_root_dir": str(run),
            "accelerator": "cpu",
            "devices": 1,
            "sync_batchnorm": False,
            "max_steps": 4,
            "val_check_interval": 2,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "model": {"pretrained": None, "optimiser": {"schedule": {"warmup_steps": 1}}},
        "data": {
            "root": str(root),
            "batch_size": 2,
            "num_workers": 0,
            "augmentation": {"init_args": {"crop": [64, 64], "scales": [1.0]}},
        },
    }
    path = run.parent / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(path)]) == 0
    return run


def _state(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def test_a_run_keeps_the_best_by_each_protocol_and_every_measured_step(run: Path) -> None:
    names = {path.name for path in (run / "checkpoints").glob("*.ckpt")}
    assert names == {"best.ckpt", "best@whole-0.75.ckpt", "last.ckpt", *(f"step-{step}.ckpt" for step in range(1, 5))}
    assert set(torch.load(run / "checkpoints" / "step-2.ckpt", weights_only=True)) & {"optimizer_states"} == set()
    for name, measure in (("weights", "miou"), ("weights@whole-0.75", "miou@whole-0.75")):
        card = read_card(run / f"{name}.safetensors")
        assert set(card.score) == {"miou", "miou@whole-0.75"}
        first, second = card.protocol.split("; miou@whole-0.75: ")
        assert "scale 0.5 of the normalised tensor" in first
        assert second.startswith("whole image, scale 0.75 of the normalised tensor")
        others = [read_card(path).score[measure] for path in run.glob("weights*.safetensors")]
        assert card.score[measure] == max(others)


def test_the_recipes_of_stdc_keep_both() -> None:
    for name in (
        "bisestdc/cityscapes_50",
        "bisestdc/cityscapes_75",
        "stdc1_seg/cityscapes_50",
        "stdc2_seg/cityscapes_75",
    ):
        config = load_config(find_config(name))
        assert (config["best_of_every_protocol"], config["keep_every_n_steps"]) == (True, 1000)
        assert sorted(protocol["scales"] for protocol in config["model"]["protocols"]) == [[0.5], [0.75]]


def test_last_weights_of_a_run(run: Path, tmp_path: Path, street_frame: Path, capsys) -> None:
    target = tmp_path / "last.safetensors"
    assert main(["export-weights", str(run), "--output", str(target)]) == 0
    printed = capsys.readouterr().out
    assert "last.ckpt" in printed
    assert "4 steps" in printed
    card, state = read_weights(target)
    assert card.training == "Cityscapes train, 4 steps"
    assert not [name for name in state if name.startswith(("aux", "detail"))]
    saved = _state(run / "checkpoints" / "last.ckpt")
    assert all(torch.equal(value, saved[f"network.{name}"]) for name, value in state.items())
    words = ["segment", str(street_frame), "--weights", str(target), "--device", "cpu"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "frame.png").is_file()


def test_any_step_of_a_run(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "step.safetensors"
    assert main(["export-weights", str(run / "checkpoints" / "step-3.ckpt"), "--output", str(target)]) == 0
    card = read_card(target)
    assert (card.training, card.score, card.protocol) == ("Cityscapes train, 3 steps", {}, "not measured")
    assert segscape.Segmenter.from_weights(target, device="cpu").card.num_classes == 19


def test_checkpoints_of_a_run_by_name(run: Path, tmp_path: Path, capsys) -> None:
    words = ["export-weights", str(run), "--output", str(tmp_path / "step.safetensors"), "--which"]
    assert main([*words, "step-3", "--dry-run"]) == 0
    assert not list(tmp_path.iterdir())
    assert main([*words, "step-3"]) == 0
    assert read_card(tmp_path / "step.safetensors").training == "Cityscapes train, 3 steps"
    assert main([*words, "step-99"]) == 1
    assert "has kept no checkpoint step-99; it has best, " in " ".join(capsys.readouterr().err.split())
    words[1] = str(run / "checkpoints" / "last.ckpt")
    assert main([*words, "best"]) == 1
    assert "--which is for a run's folder" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("run", "x.pth", "A weights file ends in .safetensors"),
        ("nowhere", "x.safetensors", "There is no checkpoint"),
        ("empty", "x.safetensors", "is no run of `segscape fit`"),
        ("foreign.pth", "x.safetensors", "`segscape convert` reads those of the networks' authors"),
        ("older.ckpt", "x.safetensors", "goes on from its end and saves it anew"),
        ("torn.ckpt", "x.safetensors", "cannot be read as a checkpoint"),
        ("other.ckpt", "x.safetensors", "does not fit the network"),
    ],
)
def test_what_is_no_checkpoint(run: Path, tmp_path: Path, capsys, source: str, output: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").symlink_to(run)
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({"state_dict": {"backbone.conv.weight": torch.zeros(1)}}, tmp_path / "foreign.pth")
    torch.save({key: value for key, value in last.items() if "card" not in key}, tmp_path / "older.ckpt")
    torch.save({**last, "state_dict": {"network.a": torch.zeros(1)}}, tmp_path / "other.ckpt")
    whole = (run / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "torn.ckpt").write_bytes(whole[: len(whole) // 2])
    assert main(["export-weights", str(tmp_path / source), "--output", str(tmp_path / output)]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / output).exists()
