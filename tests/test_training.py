"""Training as a user runs it, on tiny data: fit, resume after a kill, validate."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.optim.swa_utils import AveragedModel

import segscape
from segscape.checkpoints.shipped import read_card
from segscape.cli.main import main
from segscape.config_file import load_config
from segscape.training.optimisers import OptimiserSettings, Schedule, averaging, parameter_groups
from tests.references.bisestdc import NETWORKS, SEGMENTATION, golden, official_keys


def _tiny(root: Path, output: Path) -> list[str]:
    """Arguments that shrink the CamVid recipe to 12 steps of two 48 x 64 crops."""
    return [
        *("--config", "stdc1_seg/camvid", "--data.root", str(root), "--trainer.default_root_dir", str(output)),
        *("--data.batch_size", "2", "--data.augmentation.crop", "[48, 64]", "--data.num_workers", "0"),
        *("--trainer.max_epochs", "6", "--trainer.check_val_every_n_epoch", "3", "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
        *("--model.optimiser.schedule.warmup_steps", "2", "--trainer.log_every_n_steps", "1"),
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
    assert config["data"]["augmentation"]["init_args"]["crop"] == [48, 64]
    assert list((output / "tensorboard").glob("events*"))
    rows = list(csv.DictReader(next((output / "csv").rglob("metrics.csv")).open()))
    assert {
        "loss/logits",
        "loss/aux16",
        "loss/bce",
        "loss/dice",
        "val/miou",
        "val/iou/Road",
        "val/accuracy/Road",
    } <= set(rows[0])
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
    assert scores["whole-1"]["miou"] == pytest.approx(card.score["miou"], abs=1e-6)
    assert set(scores["whole-1"]["iou"]) == set(scores["whole-1"]["accuracy"]) == set(card.class_names)
    assert scores["whole-1"]["protocol"].startswith("CamVid val, whole image, scale 1")
    assert card.protocol.startswith("CamVid val: whole image, scale 1")


def test_predictions_are_label_files_and_go_on(camvid_root: Path, random_weights: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "predictions"
    words = [
        *("predict", "--config", "stdc1_seg/camvid", "--data.root", str(camvid_root), "--data.predict_split", "val"),
        *("--model.weights", str(random_weights), "--data.num_workers", "0", "--predictions", str(folder)),
        *("--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false"),
    ]
    assert main(words) == 0
    images = sorted((camvid_root / "images/val").iterdir())
    files = sorted(folder.iterdir())
    assert [file.stem for file in files] == [image.stem for image in images]
    segmenter = segscape.Segmenter.from_weights(random_weights, device="cpu")
    for file, image in zip(files, images, strict=True):
        same = np.asarray(Image.open(file)) == segmenter.segment(image).labels
        assert same.mean() > 0.999
    before = {file: file.stat().st_mtime_ns for file in files}
    files[2].unlink()
    capsys.readouterr()
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "1 prediction(s) written" in printed
    assert "4 were there already" in printed
    assert files[2].is_file()
    assert {file: file.stat().st_mtime_ns for file in files if file != files[2]} == {
        file: moment for file, moment in before.items() if file != files[2]
    }
    assert main(words[: words.index("--predictions")] + words[words.index("--predictions") + 2 :]) == 1
    assert "--predictions FOLDER" in capsys.readouterr().err


def test_reports_name_protocols_and_small_classes(
    cityscapes_root: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    second = "{scales: [1.0], window: [32, 64], stride: [16, 64], flip: true}"
    words = [
        *("validate", "--config", "stdc1_seg/cityscapes_75", "--data.root", str(cityscapes_root)),
        *("--data.num_workers", "0", "--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu"),
        *("--model.pretrained", "null", "--trainer.logger", "false", "--trainer.sync_batchnorm", "false"),
        *("--trainer.enable_progress_bar", "false"),
        *("--model.protocols", f"[{{scales: [0.8], scaling: pixels}}, {second}]"),
    ]
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "mean of pole, traffic light, traffic sign" in printed
    assert "accuracy, whole-0.8-pixels" in printed
    statement = "Cityscapes val, windows of 32x64 every 16x64, scale 1, plain and mirrored; mean of logits"
    assert statement in printed
    report = json.loads((tmp_path / "val_scores.json").read_text())
    assert set(report) == {"whole-0.8-pixels", "slide32x64by16x64-1-flip"}
    entry = report["slide32x64by16x64-1-flip"]
    assert entry["protocol"].startswith(statement)
    assert entry["small_classes"] == ["pole", "traffic light", "traffic sign"]
    small = [entry["iou"][name] for name in entry["small_classes"]]
    assert entry["miou_small"] == pytest.approx(sum(small) / 3)
    assert main([*words, "--model.small_classes", "[lamp]"]) == 1
    assert "Cityscapes has no class lamp; it has road" in " ".join(capsys.readouterr().err.split())


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
    assert "at most all of them; change batch_size" in " ".join(capsys.readouterr().err.split())


def test_missing_data_is_explained(tmp_path: Path, capsys) -> None:
    assert main(["fit", *_tiny(tmp_path / "nowhere", tmp_path / "run")]) == 1
    assert f"There is no folder {tmp_path / 'nowhere'}" in capsys.readouterr().err


def test_unknown_config_lists_the_names(capsys) -> None:
    assert main(["fit", "--config", "stdc1_seg/kamvid"]) == 1
    assert "stdc1_seg/camvid" in capsys.readouterr().err


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


def _rates(settings: OptimiserSettings, steps: int, read: tuple[int, ...]) -> list[float]:
    """The learning rates of the given steps, as an optimiser sees them."""
    factor = settings.schedule.factor(settings.lr, steps)
    return [settings.lr * factor(step) for step in read]


def test_schedules_are_those_of_the_published_logs() -> None:
    # What DABNet's training logs print at iterations 50 and 100, counted from 1.
    warm = Schedule(warmup="linear", warmup_steps=1000, warmup_ratio=0.1, min_lr=1e-4)
    assert _rates(OptimiserSettings(lr=0.025, schedule=warm), 80000, (49, 99)) == pytest.approx(
        [3.601e-3, 4.722e-3], abs=5e-7
    )
    plain = Schedule(min_lr=1e-4)
    assert _rates(OptimiserSettings(lr=1e-3, schedule=plain), 80000, (49,)) == pytest.approx([9.995e-4], abs=5e-8)


@pytest.mark.parametrize(("lr", "min_lr"), [(0.01, 1e-4), (0.001, 1e-5)])
def test_decay_ends_at_its_floor(lr: float, min_lr: float) -> None:
    settings = OptimiserSettings(lr=lr, schedule=Schedule(min_lr=min_lr))
    first, middle, last, after = _rates(settings, 81840, (0, 40920, 81840, 90000))
    assert first == pytest.approx(lr)
    assert middle == pytest.approx((lr - min_lr) * 0.5**0.9 + min_lr)
    assert last == after == pytest.approx(min_lr)


def test_a_schedule_drives_the_optimiser() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    settings = OptimiserSettings(
        lr=0.5, schedule=Schedule(warmup="linear", warmup_steps=4, warmup_ratio=0.25, min_lr=0.1)
    )
    optimiser = settings.build([{"params": [parameter]}])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, settings.schedule.factor(settings.lr, 10))
    rates = []
    for _ in range(10):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    expected = [(0.5 - 0.1) * (1 - step / 10) ** 0.9 + 0.1 for step in range(10)]
    expected = [rate * (1 - (1 - step / 4) * 0.75 if step < 4 else 1) for step, rate in enumerate(expected)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [({"warmup": "exponential", "min_lr": 1e-4}, "decay to zero"), ({"warmup_steps": 5}, "set warmup to")],
)
def test_senseless_schedules(words: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**words)


def test_one_group_decays_everything() -> None:
    network = segscape.create_model("stdc1_seg", 19)
    loss = torch.nn.Parameter(torch.zeros(3))
    settings = OptimiserSettings(name="adam", lr=1e-3, betas=(0.5, 0.999), weight_decay=5e-4, groups="one")
    groups = parameter_groups(network, settings, extra=[loss])
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-3, 5e-4)]
    assert sorted(map(id, groups[0]["params"])) == sorted(map(id, [*network.parameters(), loss]))
    optimiser = settings.build(groups)
    assert isinstance(optimiser, torch.optim.Adam)
    assert optimiser.param_groups[0]["betas"] == (0.5, 0.999)


def test_configs_merge_their_bases(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: {p: 1, q: 2}\ny: [1]\n")
    (tmp_path / "b.yaml").write_text("base: [a.yaml]\nx: {q: 3}\ny: [2]\n")
    assert load_config(tmp_path / "b.yaml") == {"x": {"p": 1, "q": 3}, "y": [2]}
    (tmp_path / "c.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="holds no settings"):
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
    single = json.loads((output / "val_scores.json").read_text())["whole-1"]["miou"]
    assert read_card(output / "weights.safetensors").score["miou"] == pytest.approx(single, abs=1e-6)


def test_average_of_a_short_run_follows_the_weights() -> None:
    """Beside the sum spelled out, with the decay that holds in the long run and a count that is taken over."""
    network = torch.nn.BatchNorm1d(3)
    average = AveragedModel(network, multi_avg_fn=averaging(0.9), use_buffers=True)
    expected = 0.0
    for step in range(120):
        network.weight.data.fill_(step)
        network.num_batches_tracked.fill_(step)
        average.update_parameters(network)
        kept = min(0.9, (1 + step) / (10 + step)) if step else 0
        expected = kept * expected + (1 - kept) * step
        assert average.module.weight[0].item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
        if step == 20:
            assert expected > 15
    assert average.module.num_batches_tracked == 119
    assert 119 - expected == pytest.approx(9, abs=0.1)
    with pytest.raises(ValueError, match="from 0 to 1, not 99"):
        averaging(99)
