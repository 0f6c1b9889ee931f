"""The recipes: their published constants, two steps and an evaluation of each, and the page that lists them."""

import csv
import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scripts.recipes_table import PAGE, Recipe, page, resolve

import segscape
from segscape.checkpoints.convert import to_official
from segscape.checkpoints.shipped import read_card
from segscape.cli.main import main
from segscape.config_file import find_config, load_config, shipped_configs
from segscape.data.datasets import DATASETS
from segscape.data.transforms import MmsegAugmentation, Rotation, StdcAugmentation
from segscape.registry import model_entry
from tests import published
from tests.fake.data_sets import WRITERS

ROTATIONS = {
    "deepglobe": Rotation((90.0, 270.0), probability=0.5),
    "inria_aerial": Rotation((90.0, 270.0), probability=0.5),
    "lip": Rotation((-30.0, 30.0), probability=0.6, whole_degrees=True, interpolation="bicubic"),
}

ROWS = published.rows()
# Those for networks that refine masks have tests of their own.
SEGMENTATION = [name for name in shipped_configs() if not name.startswith("crm")]


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


@cache
def _shipped(name: str) -> Recipe:
    return resolve(name, load_config(find_config(name)))


def test_every_published_recipe_is_listed() -> None:
    assert set(ROWS) == {
        name for name in SEGMENTATION if "score" in load_config(find_config(name)).get("published", {})
    }


@pytest.mark.parametrize("name", ROWS)
def test_constants_are_the_published_ones(name: str) -> None:
    recipe = _shipped(name)
    data, settings = recipe.data, recipe.data.augmentation
    ratios = settings.scales[:: len(settings.scales) - 1] if isinstance(settings, StdcAugmentation) else settings.ratios
    splits, steps, batch, every, crop, base, span, lr, floor, protocol, score = ROWS[name]
    assert f"{data.dataset}:{data.train_split}>{data.val_split}" == splits
    assert (recipe.trainer["max_steps"], recipe.trainer["val_check_interval"]) == (int(steps), int(every))
    assert recipe.trainer["check_val_every_n_epoch"] is None
    assert f"{recipe.processes}x{data.batch_size}" == batch
    assert _by(settings.crop) == crop
    assert base == ("-" if isinstance(settings, StdcAugmentation) else _by(settings.base))
    assert ":".join(f"{ratio:g}" for ratio in ratios) == span
    expected = published.of("OPTIMISERS", name)
    schedule = replace(expected.schedule, power=0.9, min_lr=float(floor))
    decay = 1e-4 if "coco" in name and name.startswith("isnet") else expected.weight_decay
    assert recipe.model.optimiser == replace(expected, lr=float(lr), schedule=schedule, weight_decay=decay)
    assert recipe.protocols[0].name == protocol
    assert recipe.published["score"].split()[0] == score or score == "-"


@pytest.mark.parametrize("name", ROWS)
def test_what_a_system_has_in_common_is_the_published(name: str) -> None:
    recipe = _shipped(name)
    config, settings = load_config(find_config(name)), recipe.data.augmentation
    over, weights = published.of("LOSSES", name)
    assert {term.outputs[0]: term.weight for term in recipe.model.losses} == weights
    for term in recipe.model.losses:
        if hasattr(term.loss, "min_kept"):
            assert over == "hard pixels"
            pixels = recipe.data.batch_size * settings.crop[0] * settings.crop[1]
            assert int(term.loss.min_kept * pixels) == recipe.data.batch_size * 1024 * 512 // 16
            assert term.loss.hard_loss == pytest.approx(-math.log(0.7))
        if hasattr(term.loss, "mean_over"):
            assert (term.loss.mean_over, term.loss.class_weights) == (over, None)
    pretrained = recipe.model.pretrained
    if not isinstance(pretrained, str):
        pretrained = {part: Path(source).name for part, source in pretrained.items()}
    assert pretrained == published.of("PRETRAINED", name)
    assert (recipe.trainer["sync_batchnorm"], recipe.trainer["precision"]) == (True, "32-true")
    assert "gradient_clip_val" not in recipe.trainer
    assert "ema" not in config
    assert settings.flip == 0.5
    if isinstance(settings, MmsegAugmentation):
        assert settings.rotation == ROTATIONS.get(recipe.data.dataset)
        assert settings.keep_ratio == (recipe.data.dataset != "lip")
        # MMSegmentation examines ten crops and takes the eleventh as it is; the port's schedule is its, too.
        own = name.startswith("isnet") and "160k" not in name
        assert (settings.padded, settings.crop_draws) == (("centre", 10) if own else ("corner", 11))
    else:
        assert settings.scales == tuple(0.125 * step for step in range(1, 13))
        assert (settings.colour, settings.quarter_turns) == (0.5, False)


def test_page_is_up_to_date() -> None:
    assert page(PAGE.read_text()) == PAGE.read_text(), "python scripts/recipes_table.py writes it anew"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Images this small are not worth two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each data set, with at least two images to train on."""
    base = tmp_path_factory.mktemp("recipes")
    for name, write in WRITERS.items():
        write(base / name)
    for path in (base / "ade20k").rglob("ADE_train_00000001.*"):
        shutil.copy(path, path.with_stem("ADE_train_00000002"))
    return {name: base / name for name in WRITERS}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """The folder of a run, which is not kept: checkpoints are large."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path)


def _small(size: list[int], of: int) -> list[int]:
    """A size divided so that a length `of` becomes 64 pixels."""
    return [max(64 * side // of, 1) for side in size]


def _small_protocol(protocol: dict[str, Any]) -> dict[str, Any]:
    if "size" not in protocol:
        return protocol
    longest = max(protocol["size"]["base"])
    windows = {key: _small(protocol[key], longest) for key in ("window", "stride") if key in protocol}
    return {**protocol, **windows, "size": {**protocol["size"], "base": _small(protocol["size"]["base"], longest)}}


def _shrink(name: str, root: Path, run: Path) -> dict[str, Any]:
    """The recipe with small sizes, batch and number of steps, all else as it is."""
    config = load_config(find_config(name))
    config["model"].setdefault("name", "dabnet_resnet18_p2")
    with torch.device("meta"):
        side = max(64, model_entry(config["model"]["name"]).build(num_classes=2).size_multiple)
    augmentation = config["data"]["augmentation"]
    augmentation["init_args"]["crop"] = [side, side]
    if "base" in augmentation["init_args"]:
        base = augmentation["init_args"]["base"]
        augmentation["init_args"]["base"] = [side * length // min(base) for length in base]
    model = {"name": config["model"]["name"], "pretrained": None}
    for key in ("losses", "protocols"):
        if key in config["model"]:
            model[key] = config["model"][key]
    model["protocols"] = [_small_protocol(protocol) for protocol in model.get("protocols", [{}])]
    return {
        "base": [str(find_config(name))],
        "trainer": {
            "default_root_dir": str(run),
            "accelerator": "cpu",
            "devices": 1,
            "sync_batchnorm": False,
            "max_steps": 2,
            "val_check_interval": 2,
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "model": model,
        "data": {"root": str(root), "batch_size": 2, "num_workers": 0, "augmentation": augmentation}
        | ({"sets": _whole_sets(config)} if "sets" in config["data"] else {}),
    }


def _whole_sets(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Those sets of a joint recipe that are measured, each data set once and in the folder of its name."""
    measured = [each for each in config["data"]["sets"] if each.get("val_split", "val")]
    return list({each["dataset"]: {**each, "root": each["dataset"]} for each in measured}.values())


def _write_small(name: str, roots: dict[str, Path], run: Path) -> tuple[str, Recipe]:
    """The recipe made small, as a file and resolved."""
    path = run / "small.yaml"
    run.mkdir()
    data = load_config(find_config(name))["data"]
    root = next(iter(roots.values())).parent if "sets" in data else roots[data["dataset"]]
    path.write_text(yaml.safe_dump(_shrink(name, root, run)))
    return str(path), resolve(name, load_config(path))


# Large networks, many scales, and what differs little from a recipe that runs always.
HEAVY = re.compile(
    "resnet101|resnest101/(ade|coco)|resnest101_lip|160k|resnet50/ade|resnet50/coco|lip/lip$|_p1|_p4|_p8|multiscale|trainval|cityscapes_75|b1/coco"
)
RUNS = [pytest.param(name, marks=[pytest.mark.heavy] if HEAVY.search(name) else []) for name in SEGMENTATION]


@pytest.mark.parametrize("name", RUNS)
def test_two_steps_and_an_evaluation(name: str, roots: dict[str, Path], run: Path) -> None:
    path, recipe = _write_small(name, roots, run)
    assert main(["fit", "--config", path]) == 0
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True, mmap=True)["global_step"] == 2
    logged: dict[str, float] = {}
    for row in csv.DictReader(next((run / "csv").rglob("metrics.csv")).open()):
        logged |= {key: float(value) for key, value in row.items() if value}
    assert math.isfinite(logged["loss/total"])
    others = (f"val@{protocol.name}/miou" for protocol in recipe.protocols[1:])
    assert all(0 <= logged[key] <= 1 for key in ("val/miou", *others))
    sets = recipe.data.sets if recipe.is_joint else [recipe.data]
    names = [DATASETS[each.dataset].spec(Path(each.root)).name for each in sets]
    card = read_card(run / "weights.safetensors")
    measured = " + ".join(f"{name} {each.val_split}" for name, each in zip(names, sets, strict=True))
    first, *further = recipe.protocols
    assert card.protocol == "; ".join([f"{measured}: {first}", *(f"miou@{each.name}: {each}" for each in further)])
    assert card.score == {
        "miou": pytest.approx(logged["val/miou"]),
        **{f"miou@{each.name}": pytest.approx(logged[f"val@{each.name}/miou"]) for each in further},
    }


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("isdnet_resnet18/deepglobe", "test"),
        ("isnet_resnet50/cityscapes", "val"),
        ("bisestdc/cityscapes_50", "val"),
        ("stdc1_seg/cityscapes_75", "val"),
        ("dabnet_resnet18_p2/cityscapes", "val"),
    ],
)
def test_an_official_checkpoint_is_measured_as_it_is(name: str, split: str, roots: dict[str, Path], run: Path) -> None:
    """One command from the authors' file to their table: the same scores as of the file converted before."""
    path, recipe = _write_small(name, roots, run)
    network_name = recipe.model.name
    torch.manual_seed(0)
    spec = DATASETS[recipe.data.dataset].spec(Path(recipe.data.root))
    network = segscape.create_model(network_name, spec.num_classes)
    official = run / "model_final.pth"
    torch.save({"state_dict": to_official(network_name, network.state_dict()), "meta": {"iter": 1}}, official)
    assert main(["convert", network_name, str(official), str(run / "ours.safetensors")]) == 0
    found = []
    for weights in (official, run / "ours.safetensors"):
        words = ["--config", path, "--model.weights", str(weights), "--data.test_split", split]
        assert main(["test", *words, "--trainer.logger", "false"]) == 0
        found.append(json.loads((run / "test_scores.json").read_text()))
    assert found[0] == found[1]
    assert list(found[0]) == [protocol.name for protocol in recipe.protocols]


# A recipe for each data set, with a split of it that has labels, the test split where it has one; and one to predict.
MEASURED = {
    "isnet_resnet50/ade20k": ("val", "val"),
    "stdc1_seg/camvid": ("test", "test"),
    "dabnet_resnet18_p2/camvid": ("test", "test"),
    "bisestdc/cityscapes_75": ("val", "test"),
    "dabnet_resnet18_p2/coco_stuff_10k": ("test", "test"),
    "isnet_resnet50/coco_stuff_10k": ("test", "test"),
    "dabnet_resnet18_p2/coco_stuff_164k": ("val", "val"),
    "isdnet_resnet18/deepglobe": ("test", "test"),
    "isdnet_resnet18/inria_aerial": ("test", "test"),
    "isnet_resnet50_lip/lip_flip": ("val", "test"),
    "finetune": ("val", "val"),
}


@pytest.mark.parametrize(("name", "split", "predicted"), [(name, *splits) for name, splits in MEASURED.items()])
def test_measured_and_predicted(name: str, split: str, predicted: str, roots: dict[str, Path], run: Path) -> None:
    path, recipe = _write_small(name, roots, run)
    words = ["--config", path, "--model.weights", "null", "--trainer.logger", "false"]
    assert main(["test", *words, "--data.test_split", split]) == 0
    dataset = DATASETS[recipe.data.dataset]
    root = Path(recipe.data.root)
    spec = dataset.spec(root)
    scores = json.loads((run / "test_scores.json").read_text())
    assert list(scores) == [protocol.name for protocol in recipe.protocols]
    for protocol in recipe.protocols:
        assert scores[protocol.name]["protocol"] == f"{spec.name} {split}, {protocol}"
        assert 0 <= scores[protocol.name]["miou"] <= 1

    assert main(["predict", *words, "--data.predict_split", predicted, "--predictions", str(run / "labels")]) == 0
    images = dict(dataset.images(root, predicted))
    assert {path.name for path in (run / "labels").iterdir()} == {dataset.prediction_name(key) for key in images}
    for key, image in images.items():
        labels = spec.to_indices(np.asarray(Image.open(run / "labels" / dataset.prediction_name(key))))
        assert labels.shape == Image.open(image).size[::-1]
