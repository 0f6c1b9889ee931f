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

from segscape.checkpoints.store import read_card
from segscape.cli.config import find_config, load_config, shipped_configs
from segscape.cli.main import main
from segscape.data.datasets import DATASETS
from segscape.data.transforms import MmsegAugmentation, Rotation, StdcAugmentation
from segscape.registry import model_entry
from segscape.training.optimisers import OptimiserSettings, Schedule
from tests.test_datasets import WRITERS

# From the authors' code, README files and logs. A line of settings: data set, split trained on and split measured;
# steps; processes x crops; steps between evaluations; crop; the size and the range of ratios that resizing refers to;
# learning rate and its floor. Below it the recipes that have them, each with its protocol and its score.
PUBLISHED = """
cityscapes:train>val 60000 3x16 1000 512x1024 - 0.125:1.5 0.01 0
    stdc1_seg/cityscapes_50 whole-0.5 72.22
    stdc1_seg/cityscapes_75 whole-0.75 74.50
    stdc2_seg/cityscapes_50 whole-0.5 74.24
    stdc2_seg/cityscapes_75 whole-0.75 77.04
cityscapes:train>val 160000 2x6 1000 512x1024 - 0.125:1.5 0.01 0
    bisestdc/cityscapes_50 whole-0.5 74.6
    bisestdc/cityscapes_75 whole-0.75 77.6
deepglobe:train>val 80000 4x2 4000 1224x1224 2448x2448 1:1 0.01 1e-4
    isdnet_resnet18/deepglobe whole-fit2448x2448-0.8-pixels 73.30
inria_aerial:train>val 40000 4x1 4000 2000x2000 5000x5000 0.8:0.8 0.01 1e-4
    isdnet_resnet18/inria_aerial whole-fit5000x5000-0.8-pixels 74.39
cityscapes:train>val 80000 4x2 4000 512x1024 1024x2048 0.5:2 0.01 1e-4
    isdnet_resnet18/cityscapes whole-fit1024x2048-0.8-pixels -
cityscapes:train>val 81840 8x2 1860 512x1024 1024x2048 0.5:2 0.01 1e-4
    isnet_resnet50/cityscapes whole-fit1024x2048-1-direct 79.32
    isnet_resnet101/cityscapes whole-fit1024x2048-1-direct 80.56
    isnet_resnet50/cityscapes_multiscale slide512x1024by341x341-fit1024x2048-SIX-flip-softmax@network-direct 81.31
    isnet_resnet101/cityscapes_multiscale slide1024x512by341x341-fit1024x2048-SIX-flip-direct 81.96
ade20k:train>val 164190 8x2 12630 512x512 512x2048 0.5:2 0.01 1e-4
    isnet_resnet50/ade20k whole-fit512x2048-1-direct 44.22
    isnet_resnet101/ade20k whole-fit512x2048-1-direct 45.92
    isnet_resnet50/ade20k_multiscale whole-fit512x2048-SIX-flip-softmax@network-direct 45.03
    isnet_resnet101/ade20k_multiscale whole-fit512x2048-SIX-flip-softmax@network-direct 47.29
coco_stuff_10k_182:train>test 61820 8x2 5620 512x512 512x2048 0.5:2 0.001 1e-5
    isnet_resnet50/coco_stuff_10k whole-fit512x2048-1-direct 38.06
    isnet_resnet101/coco_stuff_10k whole-fit512x2048-1-direct 40.53
    isnet_resnet50/coco_stuff_10k_multiscale whole-fit512x2048-0.5+0.75+1+1.25+1.5-flip-direct 40.39
    isnet_resnet101/coco_stuff_10k_multiscale whole-fit512x2048-0.5+0.75+1+1.25+1.5-flip-direct 41.74
lip:train>val 142800 8x4 9520 473x473 520x520 0.75:1.25 0.01 1e-4
    isnet_resnet50_lip/lip whole-473x473-1-direct 53.14
    isnet_resnet101_lip/lip whole-473x473-1-direct 54.96
    isnet_resnet50_lip/lip_flip whole-473x473-1-flip-direct 53.41
    isnet_resnet101_lip/lip_flip whole-473x473-1-flip-direct 55.41
cityscapes:train>val 80000 4x8 8000 1024x1024 1024x2048 0.5:2 0.025 1e-4
    dabnet_resnet18_p1/cityscapes whole-1 77.4
    dabnet_resnet18_p2/cityscapes whole-1 77.8
    dabnet_resnet18_p4/cityscapes whole-1 78.1
    dabnet_resnet18_p8/cityscapes whole-1 78.8
    dabnet_resnet18_p16/cityscapes whole-1 78.4
cityscapes:trainval>val 80000 4x8 8000 1024x1024 1024x2048 0.5:2 0.025 1e-4
    dabnet_resnet18_p2/cityscapes_trainval whole-1 76.1
    dabnet_resnet18_p8/cityscapes_trainval whole-1 77.3
cityscapes:train>val 80000 4x4 8000 1024x1024 1024x2048 0.5:2 0.001 1e-4
    dabnet_efficientnet_b1/cityscapes whole-1 78.7
cityscapes:trainval>val 80000 4x4 8000 1024x1024 1024x2048 0.5:2 0.001 1e-4
    dabnet_efficientnet_b1/cityscapes_trainval whole-1 77.5
coco_stuff_10k:train>test 80000 4x8 8000 512x512 512x2048 0.5:2 0.005 1e-4
    dabnet_resnet18_p2/coco_stuff_10k whole-640x640-1 29.5
coco_stuff_10k:train>test 80000 4x8 8000 512x512 512x2048 0.5:2 0.001 1e-4
    dabnet_efficientnet_b1/coco_stuff_10k whole-640x640-1 32.4
coco_stuff_164k:train>val 160000 4x8 8000 512x512 512x2048 0.5:2 0.005 1e-4
    dabnet_resnet18_p2/coco_stuff_164k whole-640x640-1 -
camvid_original:trainval>test 10000 4x2 1000 768x960 768x1536 0.5:2 0.025 1e-4
    dabnet_resnet18_p2/camvid whole-768x960-1 74.3
camvid_original:trainval>test 10000 4x2 1000 768x960 768x1536 0.5:2 0.001 1e-4
    dabnet_efficientnet_b1/camvid whole-768x960-1 76.5
""".replace("SIX", "0.5+0.75+1+1.25+1.5+1.75")

_ONE_GROUP = OptimiserSettings("sgd", momentum=0.9, weight_decay=5e-4, groups="one")
# Before the learning rate and its floor; the longest prefix of the recipe's name holds.
OPTIMISERS = {
    "stdc": OptimiserSettings(
        "sgd",
        momentum=0.9,
        weight_decay=5e-4,
        groups="split",
        head_lr_factor=10.0,
        train_backbone_norms=False,
        schedule=Schedule("exponential", warmup_steps=1000),
    ),
    "isdnet": _ONE_GROUP,
    "isnet": _ONE_GROUP,
    "dabnet_resnet18": replace(_ONE_GROUP, schedule=Schedule("linear", warmup_steps=1000, warmup_ratio=0.1)),
    "dabnet_efficientnet": OptimiserSettings("adam", betas=(0.5, 0.999), weight_decay=0.0, groups="one"),
}
OPTIMISERS["bisestdc"] = OPTIMISERS["stdc"]

# Each output with its weight, and what the cross entropies average over.
LOSSES = {
    "stdc": ("hard pixels", {"logits": 1, "aux16": 1, "aux32": 1, "detail": 1}),
    "bisestdc": ("hard pixels", {"logits": 1, "aux8": 0.3, "aux16": 0.3, "aux32": 0.3, "detail": 1}),
    "isdnet": (
        "all",
        {
            "logits": 1,
            "deep": 1,
            "context8": 1,
            "context16": 1,
            "layer3": 0.4,
            "reconstruction": 0.1,
            "deep_features": 1,
        },
    ),
    "isnet": ("labelled", {"logits": 1, "stage1": 0.4, "aux": 0.4}),
    "dabnet": ("all", {"logits": 1, "aux16": 0.4, "aux32": 0.4}),
}

STDC1, RESNET18 = "STDCNet813M_73.91.tar", "resnet18_v1c-b5776b93.pth"
PRETRAINED = {
    "stdc1": {"backbone": STDC1},
    "stdc2": {"backbone": "STDCNet1446_76.47.tar"},
    "bisestdc": {"backbone": STDC1},
    "isdnet": {"backbone": RESNET18, "shallow": STDC1},
    "isnet_resnet50": {"backbone": "resnet50_v1c-2cccc1ad.pth"},
    "isnet_resnet101": {"backbone": "resnet101_v1c-e67eebb6.pth"},
    "dabnet_resnet18": {"backbone": RESNET18},
    "dabnet_efficientnet": "imagenet",
}

ROTATIONS = {
    "deepglobe": Rotation((90.0, 270.0), probability=0.5),
    "inria_aerial": Rotation((90.0, 270.0), probability=0.5),
    "lip": Rotation((-30.0, 30.0), probability=0.6, whole_degrees=True, interpolation="bicubic"),
}


def _rows() -> Iterator[tuple[str, list[str]]]:
    settings: list[str] = []
    for line in PUBLISHED.strip().splitlines():
        words = line.split()
        if line.startswith(" "):
            yield words[0], settings + words[1:]
        else:
            settings = words


ROWS = dict(_rows())
# Those for networks that refine masks have tests of their own.
SEGMENTATION = [name for name in shipped_configs() if not name.startswith("crm")]


def _of(table: dict[str, Any], recipe: str) -> Any:
    return next(value for prefix, value in table.items() if recipe.startswith(prefix))


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


@cache
def _shipped(name: str) -> Recipe:
    return resolve(name, load_config(find_config(name)))


def test_every_published_recipe_is_listed() -> None:
    published = {name for name in SEGMENTATION if "published" in load_config(find_config(name))}
    assert set(ROWS) == published
    assert set(SEGMENTATION) - published == {
        "finetune",
        "scapenet_lite0/aerial",
        "scapenet_lite0/salient",
        "scapenet_lite0/street",
        "stdc1_seg/camvid",
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
    expected = _of(OPTIMISERS, name)
    schedule = replace(expected.schedule, power=0.9, min_lr=float(floor))
    decay = 1e-4 if "coco" in name and name.startswith("isnet") else expected.weight_decay
    assert recipe.model.optimiser == replace(expected, lr=float(lr), schedule=schedule, weight_decay=decay)
    assert recipe.protocols[0].name == protocol
    assert recipe.published["score"].split()[0] == score or score == "-"


@pytest.mark.parametrize("name", ROWS)
def test_what_a_system_has_in_common_is_the_published(name: str) -> None:
    recipe = _shipped(name)
    config = load_config(find_config(name))
    over, weights = _of(LOSSES, name)
    assert {term.outputs[0]: term.weight for term in recipe.model.losses} == weights
    for term in recipe.model.losses:
        if hasattr(term.loss, "min_kept"):
            assert over == "hard pixels"
            assert term.loss.min_kept == recipe.data.batch_size * 1024 * 512 // 16
            assert term.loss.hard_loss == pytest.approx(-math.log(0.7))
        if hasattr(term.loss, "mean_over"):
            assert (term.loss.mean_over, term.loss.class_weights) == (over, None)
    pretrained = recipe.model.pretrained
    if not isinstance(pretrained, str):
        pretrained = {part: Path(source).name for part, source in pretrained.items()}
    assert pretrained == _of(PRETRAINED, name)
    assert (recipe.trainer["sync_batchnorm"], recipe.trainer["precision"]) == (True, "32-true")
    assert "gradient_clip_val" not in recipe.trainer
    assert "ema" not in config
    settings = recipe.data.augmentation
    assert settings.flip == 0.5
    if isinstance(settings, MmsegAugmentation):
        assert settings.rotation == ROTATIONS.get(recipe.data.dataset)
        assert settings.keep_ratio == (recipe.data.dataset != "lip")
        assert settings.padded == ("centre" if name.startswith("isnet") else "corner")
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
    for term in model.get("losses", []):
        if "min_kept" in term["loss"].get("init_args", {}):
            term["loss"]["init_args"]["min_kept"] = 2 * side * side // 16
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
    "resnet101|resnet50/ade|resnet50/coco|lip/lip$|_p1|_p4|_p8|multiscale|trainval|cityscapes_75|b1/coco"
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
    assert card.protocol == f"{measured}: {recipe.protocols[0]}"
    assert card.score["miou"] == pytest.approx(logged["val/miou"])


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


def test_a_recipe_for_every_data_set() -> None:
    measured = {load_config(find_config(name))["data"]["dataset"] for name in MEASURED}
    joint = (load_config(find_config(name))["data"].get("sets", []) for name in SEGMENTATION)
    assert measured | {each["dataset"] for sets in joint for each in sets} == set(DATASETS)
