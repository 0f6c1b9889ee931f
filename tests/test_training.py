"""Training as a user runs it, on tiny data: fit, resume after a kill, validate, the official recipes."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import segscape
from segscape.checkpoints.store import read_card
from segscape.cli.config import find_config, load_config
from segscape.cli.main import main
from segscape.training.optimisers import OptimiserSettings, parameter_groups
from tests.references.bisestdc import NETWORKS, SEGMENTATION, golden, official_keys

CONFIGS = Path(segscape.__file__).parent / "configs"
RECIPES = sorted(
    str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.yaml") if path.parent.name != "base"
)


def _tiny(root: Path, output: Path) -> list[str]:
    """Arguments that shrink the CamVid recipe to 12 steps of two 48 x 64 crops."""
    return [
        *("--config", "stdc1_seg/camvid", "--data.root", str(root), "--trainer.default_root_dir", str(output)),
        *("--data.batch_size", "2", "--data.augmentation.crop", "[48, 64]", "--data.num_workers", "0"),
        *("--trainer.max_epochs", "6", "--trainer.check_val_every_n_epoch", "3", "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
        *("--model.optimiser.warmup_steps", "2", "--trainer.log_every_n_steps", "1"),
    ]


def _final(output: Path) -> dict:
    return torch.load(output / "checkpoints" / "last.ckpt", weights_only=True)


def test_fit_leaves_all_that_a_run_should(camvid_root: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert main(["fit", *_tiny(camvid_root, output)]) == 0
    assert _final(output)["global_step"] == 12
    for picture in ("curve.png", "predictions.png"):
        assert min(Image.open(output / picture).size) > 200
    config = yaml.safe_load((output / "checkpoints" / "config.yaml").read_text())
    assert config["data"]["augmentation"]["crop"] == [48, 64]
    assert list((output / "tensorboard").glob("events*"))
    rows = list(csv.DictReader(next((output / "csv").rglob("metrics.csv")).open()))
    assert {"loss/logits", "loss/aux16", "loss/bce", "loss/dice", "val/miou", "val/iou/Road"} <= set(rows[0])
    best = [float(row["val/miou"]) for row in rows if row["val/miou"]]
    assert len(best) == 2
    card = read_card(output / "weights.safetensors")
    assert card.score["miou"] == pytest.approx(max(best))
    segmenter = segscape.Segmenter.from_weights(output / "weights.safetensors", device="cpu")
    assert segmenter.segment(next((camvid_root / "images/val").iterdir())).labels.shape == (90, 120)

    arguments = _tiny(camvid_root, output)[:6]
    words = [
        "validate",
        *arguments,
        "--model.weights",
        str(output / "weights.safetensors"),
        "--trainer.accelerator",
        "cpu",
    ]
    assert main([*words, "--trainer.logger", "false", "--trainer.enable_progress_bar", "false"]) == 0
    scores = json.loads((output / "val_scores.json").read_text())
    assert scores["1"]["miou"] == pytest.approx(card.score["miou"], abs=1e-6)
    assert set(scores["1"]["iou"]) == set(card.class_names)


def _command(root: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "segscape.cli.main", "fit", *_tiny(root, output), "--save_every_n_steps", "1"]


def test_killed_run_goes_on_and_ends_the_same(camvid_root: Path, tmp_path: Path) -> None:
    """SIGKILL at a random step; the same command goes on, and ends with the weights of a run that was not killed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    last = killed / "checkpoints" / "last.ckpt"
    stop_at = random.randint(1, 7)
    with subprocess.Popen(_command(camvid_root, killed), env=environment, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            if last.exists() and torch.load(last, weights_only=True, mmap=True)["global_step"] >= stop_at:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL
    stopped = _final(killed)["global_step"]
    assert stop_at <= stopped < 12
    subprocess.run(_command(camvid_root, killed), env=environment, check=True, capture_output=True)
    subprocess.run(_command(camvid_root, whole), env=environment, check=True, capture_output=True)
    resumed, expected = _final(killed), _final(whole)
    assert resumed["global_step"] == expected["global_step"] == 12
    for key, value in expected["current_model_state"].items():
        torch.testing.assert_close(resumed["current_model_state"][key], value, msg=f"{key}, killed at {stopped}")
    for path in killed.rglob("[!.]*.ckpt"):
        torch.load(path, weights_only=True)


def test_small_split_is_explained(camvid_root: Path, tmp_path: Path, capsys) -> None:
    words = ["fit", *_tiny(camvid_root, tmp_path / "run"), "--data.batch_size", "6"]
    assert main(words) == 1
    assert "at most the whole split; change batch_size" in " ".join(capsys.readouterr().err.split())


def test_missing_data_is_explained(tmp_path: Path, capsys) -> None:
    assert main(["fit", *_tiny(tmp_path / "nowhere", tmp_path / "run")]) == 1
    assert "No images of CamVid, split train" in capsys.readouterr().err


def test_unknown_config_lists_the_names(capsys) -> None:
    assert main(["fit", "--config", "stdc1_seg/kitti"]) == 1
    assert "stdc1_seg/camvid" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if "cityscapes" in recipe])
def test_official_recipes_run(recipe: str, cityscapes_root: Path, tmp_path: Path) -> None:
    """Two steps and one evaluation of every published recipe, on a tiny Cityscapes."""
    config = load_config(find_config(recipe))
    for term in config["model"]["losses"]:
        if "min_kept" in term["loss"].get("init_args", {}):
            term["loss"]["init_args"]["min_kept"] = 500
    config["model"]["backbone_checkpoint"] = None
    config["data"] |= {"root": str(cityscapes_root), "batch_size": 2, "num_workers": 0}
    config["data"]["augmentation"] |= {"crop": [32, 64], "scales": [0.5, 1.0]}
    output = tmp_path / "run"
    config["trainer"] |= {
        "max_steps": 2,
        "val_check_interval": 2,
        "default_root_dir": str(output),
        "accelerator": "cpu",
    }
    config["trainer"] |= {"enable_progress_bar": False, "enable_model_summary": False, "sync_batchnorm": False}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(tmp_path / "tiny.yaml"), "--save_every_n_steps", "2"]) == 0
    assert _final(output)["global_step"] == 2
    rows = list(csv.DictReader(next((output / "csv").rglob("metrics.csv")).open()))
    other = "val@0.75" if recipe.endswith("50") else "val@0.5"
    assert any(row["val/miou"] and row[f"{other}/miou"] for row in rows)


def test_backbone_checkpoint_is_loaded(tmp_path: Path) -> None:
    from segscape.labels import CITYSCAPES
    from segscape.losses import CrossEntropy, LossTerm
    from segscape.training.segmentation import SegmentationTask
    from tests.references.bisestdc import official_state

    official = official_state("cls_stdc1")
    torch.save({"state_dict": official}, tmp_path / "STDCNet813M_73.91.tar")
    task = SegmentationTask(
        network="bisestdc",
        label_spec=CITYSCAPES,
        losses=[LossTerm("logits", CrossEntropy())],
        optimiser=OptimiserSettings(),
        backbone_checkpoint=str(tmp_path / "STDCNet813M_73.91.tar"),
        backbone_name="stdc1",
    )
    assert torch.equal(task.network.backbone.stage2.conv.weight, official["features.0.conv.weight"])
    with pytest.raises(ValueError, match=r"STDCNet813M_73\.91\.tar does not fit the network: missing"):
        SegmentationTask(
            network="stdc2_seg",
            label_spec=CITYSCAPES,
            losses=[LossTerm("logits", CrossEntropy())],
            optimiser=OptimiserSettings(),
            backbone_checkpoint=str(tmp_path / "STDCNet813M_73.91.tar"),
            backbone_name="stdc1",
        )


@pytest.mark.parametrize("variant", SEGMENTATION)
def test_parameter_groups_are_the_official_ones(variant: str) -> None:
    """The groups of the reference, less the parameters that the authors optimise but never use."""
    network = segscape.create_model(NETWORKS[variant], 19)
    ours = [
        (len(g["params"]), sum(p.numel() for p in g["params"]), round(g["lr"] / 0.01), g["weight_decay"])
        for g in parameter_groups(network, OptimiserSettings())
    ]
    sizes = {key: torch.Size(shape).numel() for key, shape in official_keys(variant).items()}
    backbone = [f"cp.backbone.{name}.weight" for name in ("conv_last.conv", "fc", "linear")]
    heads = {
        leaf: [f"conv_out_sp{number}.{name}" for number in (2, 4, 16) for name in names]
        for leaf, names in (
            ("head decay", ("conv.conv.weight", "conv_out.weight")),
            ("head no decay", ("conv.bn.weight", "conv.bn.bias")),
        )
    }
    unused = {"base decay": backbone, "base no decay": [], **heads}
    expected = [
        (
            group["tensors"] - len(unused[group["name"]]),
            group["elements"] - sum(sizes[name] for name in unused[group["name"]]),
            group["lr_multiplier"],
            group["weight_decay"],
        )
        for group in golden()["variants"][variant]["optimiser_groups"]
    ]
    assert ours == expected


def test_every_parameter_is_in_one_group() -> None:
    network = segscape.create_model("bisestdc", 19)
    groups = parameter_groups(network, OptimiserSettings(train_backbone_norms=True))
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())


def test_configs_merge_their_bases(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: {p: 1, q: 2}\ny: [1]\n")
    (tmp_path / "b.yaml").write_text("base: [a.yaml]\nx: {q: 3}\ny: [2]\n")
    assert load_config(tmp_path / "b.yaml") == {"x": {"p": 1, "q": 3}, "y": [2]}
    (tmp_path / "c.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="a config is a YAML mapping"):
        load_config(tmp_path / "c.yaml")


def test_two_processes_train_and_measure_as_one(camvid_root: Path, tmp_path: Path) -> None:
    """Two CPU processes: each image measured once, and all logs and checkpoints written once."""
    output = tmp_path / "run"
    extra = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_epochs", "3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*_command(camvid_root, output), *extra], env=environment, check=True, capture_output=True)
    assert _final(output)["global_step"] == 3
    alone = [*_tiny(camvid_root, output)[:6], "--model.weights", str(output / "weights.safetensors")]
    assert main(["validate", *alone, "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]) == 0
    single = json.loads((output / "val_scores.json").read_text())["1"]["miou"]
    assert read_card(output / "weights.safetensors").score["miou"] == pytest.approx(single, abs=1e-6)
