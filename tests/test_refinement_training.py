"""The losses of mask refinement, and its training and evaluation as a user runs them, on tiny data."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from scripts.recipes_table import resolve
from torch.nn import functional as F

import segscape
from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.shipped import read_card
from segscape.checkpoints.store import write_weights
from segscape.cli.main import main
from segscape.config_file import find_config, load_config
from segscape.data.refinement.pairs import RefinementPairs
from segscape.data.refinement.transforms import PerturbedPairs
from segscape.losses import RefinementLoss, RefinementWeights
from segscape.losses.refinement import EdgeStrength
from segscape.metrics import boundary_accuracy
from segscape.normalisation import Normalisation
from segscape.refinement.refiner import Refiner
from segscape.training.optimisers import OptimiserSettings, Schedule
from segscape.training.refinement import RefinementTask
from tests.fake.refinement import SIZE, save_pair, write_folder, write_triples
from tests.references import crm

QUIET = [
    *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--data.num_workers", "0"),
    *("--trainer.enable_progress_bar", "false"),
]


def test_edge_strength_equals_scipys_filters() -> None:
    maps = np.random.default_rng(0).random((2, 1, 9, 14))
    found = EdgeStrength().double()(torch.from_numpy(maps)).numpy()
    for one, ours in zip(maps[:, 0], found[:, 0], strict=True):
        smooth = ndimage.uniform_filter(one, 3, mode="constant")
        slopes = [ndimage.sobel(smooth, axis=axis, mode="constant") / 4 for axis in (0, 1)]
        np.testing.assert_allclose(ours, np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + 1e-4), rtol=1e-9)


def test_edges_at_the_border_of_a_full_mask_are_kept() -> None:
    strength = EdgeStrength()(torch.ones(1, 1, 8, 8))[0, 0]
    # In the corner the means are 4/9, 6/9 and 6/9, 1 inside: both slopes are (2 x 6/9 + 1) / 4.
    assert strength[0, 0].item() == pytest.approx(math.sqrt(2 * ((2 * 6 / 9 + 1) / 4) ** 2 + 1e-4), rel=1e-6)
    assert strength[4, 4].item() == pytest.approx(0.01)


def test_losses_of_a_few_pixels_by_hand() -> None:
    p, truth = torch.tensor([0.8, 0.4, 0.5]), torch.tensor([1.0, 0.25, 0.5])
    terms = RefinementLoss(RefinementWeights(ce=1, l1=2, l2=3, grad=0))(
        p.logit().reshape(1, 1, 1, 3), truth.reshape(1, 1, 1, 3)
    )
    # One half is not foreground for the cross entropy.
    ce = -(math.log(0.8) + math.log(0.6) + math.log(0.5)) / 3
    assert terms["ce"].item() == pytest.approx(ce, rel=1e-6)
    assert terms["l1"].item() == pytest.approx((0.2 + 0.15) / 3, rel=1e-5)
    assert terms["l2"].item() == pytest.approx((0.04 + 0.0225) / 3, rel=1e-5)
    assert terms["total"].item() == pytest.approx(ce + 2 * 0.35 / 3 + 3 * 0.0625 / 3, rel=1e-5)


def test_gradient_is_finite_where_nothing_changes() -> None:
    logits = torch.zeros(1, 1, 12, 12, requires_grad=True)
    RefinementLoss()(logits, torch.zeros(1, 1, 12, 12))["total"].backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad > 0).all()


def test_milestones_divide_by_ten() -> None:
    factor = Schedule(milestones=(3, 5)).factor(1e-3, 10)
    assert [factor(step) for step in range(7)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    with pytest.raises(ValueError, match="without a warm-up"):
        Schedule(warmup="linear", warmup_steps=2, milestones=(3,))


def test_published_recipe() -> None:
    recipe = resolve("crm_resnet50/merged", load_config(find_config("crm_resnet50/merged")))
    settings = recipe.model.optimiser
    schedule = Schedule(milestones=(22_500, 37_500))
    assert settings == OptimiserSettings("adam", lr=2.25e-4, weight_decay=1e-4, groups="one", schedule=schedule)
    assert recipe.model.loss_weights == RefinementWeights(ce=1.0, l1=0.5, l2=0.5, grad=2.0)
    assert (recipe.trainer["max_steps"], recipe.trainer["sync_batchnorm"]) == (45_705, False)
    assert (recipe.processes, recipe.data.batch_size) == (2, 6)
    assert (recipe.data.augmentation.crop, recipe.data.augmentation.scales) == ((224, 224), (1.0, 1.0))
    assert recipe.trainer["precision"] == "32-true"
    assert "gradient_clip_val" not in recipe.trainer
    assert "ema" not in load_config(find_config("crm_resnet50/merged"))


def test_weight_decay_is_part_of_the_gradient() -> None:
    """Adam's own: with no gradient at all, the first step is a whole learning rate towards zero."""
    parameter = torch.nn.Parameter(torch.tensor([2.0, -3.0]))
    settings = OptimiserSettings("adam", lr=0.01, weight_decay=1e-4, groups="one")
    optimiser = settings.build([{"params": [parameter], "lr": settings.lr, "weight_decay": settings.weight_decay}])
    parameter.grad = torch.zeros(2)
    optimiser.step()
    torch.testing.assert_close(parameter.data, torch.tensor([1.99, -2.99]), atol=1e-5, rtol=0)


def test_parameters_are_of_one_group() -> None:
    with pytest.raises(ValueError, match=r"set optimiser\.groups to one"):
        RefinementTask(name="crm_resnet18", optimiser=OptimiserSettings(groups="split"))


@pytest.fixture
def task() -> RefinementTask:
    return RefinementTask(name="crm_resnet18", optimiser=OptimiserSettings(groups="one"), coarser_stages=1)


def test_masks_of_coarser_stages_are_the_networks_own(task: RefinementTask) -> None:
    generator = torch.Generator().manual_seed(0)
    images, masks = torch.randn(2, 3, 48, 40, generator=generator), torch.rand(2, 1, 48, 40, generator=generator)
    half = [F.interpolate(x, scale_factor=0.5, mode="bilinear") for x in (images, masks)]
    statistics = task.network.extractor.bn1.running_mean.clone()
    with torch.no_grad():
        coarse = task.network.eval()(*half, size=(48, 40)).sigmoid() * 2 - 1
    task.network.train()
    found = task._refined_coarsely(images, masks, 1)
    torch.testing.assert_close(found, coarse)
    assert not found.requires_grad
    assert task._refined_coarsely(images, masks, 0) is masks
    assert task.network.training
    assert task.network.extractor.bn1.running_mean.equal(statistics)


def test_coarser_stages_of_a_residual_network_start_from_the_whole_mask() -> None:
    task = RefinementTask(
        name="crm_efficientnet_lite0", optimiser=OptimiserSettings(groups="one"), coarser_stages=2, pretrained=None
    )
    assert task.normalise == Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    masks = (torch.rand(2, 1, 48, 40, generator=torch.Generator().manual_seed(0)) > 0.5).float() * 2 - 1
    # Fresh, it leaves them as they are, but that nothing is quite sure.
    torch.testing.assert_close(task._refined_coarsely(torch.zeros(2, 3, 48, 40), masks, 2), masks * 0.98)


def test_the_number_of_coarser_stages_is_drawn(task: RefinementTask, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(task, "log", lambda *_, **__: None)
    monkeypatch.setattr(task, "log_dict", lambda *_, **__: None)
    monkeypatch.setattr(task, "_count", lambda *_: None)
    monkeypatch.setattr(task, "_refined_coarsely", lambda images, masks, stages: drawn.append(stages) or masks)
    shapes = {"image": (2, 3, 16, 16), "mask": (2, 1, 16, 16), "truth": (2, 1, 16, 16)}
    batch = {key: torch.randint(256, shape, dtype=torch.uint8) for key, shape in shapes.items()}
    torch.manual_seed(0)
    for _ in range(12):
        task.training_step(batch, 0)
    assert set(drawn) == {0, 1}


def _tiny(root: Path, output: Path, steps: int) -> list[str]:
    """Arguments that shrink our recipe to a few steps of two 32 x 32 crops, checked every second one."""
    return [
        *("--config", "crm_resnet18/davis", "--data.root", str(root), "--trainer.default_root_dir", str(output)),
        *("--data.batch_size", "2", "--data.augmentation.crop", "[32, 32]", "--trainer.max_steps", str(steps)),
        *("--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1", "--trainer.num_sanity_val_steps"),
        *("0", "--trainer.enable_model_summary", "false", "--model.optimiser.schedule.warmup_steps", "1", *QUIET),
        # The learning rate of a step depends on how many there will be; a resumed run has to agree with a whole one.
        *("--model.optimiser.schedule.power", "0.0"),
    ]


def _logged(output: Path) -> list[dict[str, str]]:
    return [row for path in sorted((output / "csv").rglob("metrics.csv")) for row in csv.DictReader(path.open())]


@pytest.fixture(scope="module")
def shells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pairs of one's own, with splits."""
    root = tmp_path_factory.mktemp("pairs") / "shells"
    write_folder(root)
    return root


@pytest.fixture(scope="module")
def whole_run(shells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["fit", *_tiny(shells, output, 4)]) == 0
    return output


def test_fit_leaves_all_that_a_run_should(whole_run: Path) -> None:
    output = whole_run
    for picture in ("curve.png", "predictions.png"):
        assert min(Image.open(output / picture).size) > 200
    rows = _logged(output)
    terms = {f"loss/{name}" for name in ("ce", "l1", "l2", "grad", "total")}
    scores = {f"val/{name}{kind}" for name in ("iou", "mba") for kind in ("", "_coarse", "_gain")}
    assert terms | scores | {"train/iou", "train/iou_coarse"} <= set(rows[0])
    first = next(row for row in rows if row["loss/total"])
    total = sum(weight * float(first[f"loss/{name}"]) for name, weight in (("ce", 1), ("l1", 0.5), ("l2", 0.5)))
    assert float(first["loss/total"]) == pytest.approx(total + 2 * float(first["loss/grad"]), rel=1e-5)
    check = max((row for row in rows if row["val/mba"]), key=lambda row: float(row["val/mba"]))
    assert float(check["val/mba_gain"]) == pytest.approx(float(check["val/mba"]) - float(check["val/mba_coarse"]))

    card = read_card(output / "weights.safetensors")
    assert (card.network, card.class_names, card.training_size) == ("crm_resnet18", ("foreground",), (32, 32))
    logged = {name: float(check[f"val/{name}"]) for name in ("mba", "iou", "mba_coarse", "iou_coarse")}
    # Logged as float32.
    assert card.score == pytest.approx(logged, abs=1e-6)
    assert card.protocol.startswith("shells val, perturbed: whole image, stages 0.125, 0.25, 0.5, 1;")
    assert card.training in ("shells train, 2 steps", "shells train, 4 steps")


def test_validation_measures_refined_masks(shells: Path, tmp_path: Path) -> None:
    """The coarse scores, which no network changes, from the files; the refined ones through the refiner."""
    weights = _random_weights(tmp_path)
    words = ["--data.root", str(shells), "--model.weights", str(weights), *QUIET, "--trainer.logger", "false"]
    words += ["--trainer.default_root_dir", str(tmp_path / "run")]
    assert main(["validate", "--config", "crm_resnet18/davis", *words]) == 0
    report = json.loads((tmp_path / "run" / "val_scores.json").read_text())
    refiner = Refiner.from_weights(weights, device="cpu")
    found, coarse = [], []
    for sample in PerturbedPairs(RefinementPairs(shells, "val")):
        mask, truth = sample["mask"][0].numpy(), sample["truth"][0].numpy() > 128
        coarse.append((mask > 128, truth))
        probability = refiner.refine(sample["image"].permute(1, 2, 0).numpy(), mask).probability
        found.append(((probability * 255).astype(np.uint8) > 128, truth))
    assert report["coarse"] == pytest.approx(_scores(coarse))
    assert report["1"] == pytest.approx(_scores(found))


def _scores(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Scores of predicted and true masks, image by image."""
    intersection = sum(int((mask & truth).sum()) for mask, truth in pairs)
    union = sum(int((mask | truth).sum()) for mask, truth in pairs)
    return {"iou": intersection / union, "mba": float(np.mean([boundary_accuracy(*pair) for pair in pairs]))}


def _random_weights(folder: Path) -> Path:
    """Weights of an untrained network that makes no trivial masks."""
    torch.manual_seed(0)
    network = segscape.create_model("crm_resnet18")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.mul_(3)
    path = folder / "random.safetensors"
    card = WeightsCard("crm_resnet18", ("foreground",), ((255, 255, 255),), Normalisation())
    write_weights(path, card, network.state_dict())
    return path


def test_resumed_run_ends_as_a_whole_one(shells: Path, whole_run: Path, tmp_path: Path) -> None:
    """With the same samples, and the same dropout."""
    for steps in (2, 4):
        assert main(["fit", *_tiny(shells, tmp_path, steps)]) == 0
    whole, parts = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (whole_run, tmp_path)
    )
    assert whole["global_step"] == parts["global_step"] == 4
    for key, value in whole["current_model_state"].items():
        torch.testing.assert_close(parts["current_model_state"][key], value, msg=key)


def test_merged_sources_train_without_validation(tmp_path: Path) -> None:
    """The published recipe on two of its sources, with fewer and smaller crops."""
    for number in range(2):
        for folder in ("ecssd", "DUTS-TR"):
            save_pair(tmp_path / "all" / folder / f"{number}.jpg", tmp_path / "all" / folder / f"{number}.png", number)
    words = [
        *("--config", "crm_resnet50/merged", "--data.root", str(tmp_path / "all"), "--model.pretrained", "null"),
        *("--model.name", "crm_resnet18", "--data.batch_size", "2", "--data.augmentation.crop", "[32, 32]", *QUIET),
        *("--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.max_steps", "2"),
        *("--trainer.log_every_n_steps", "1", "--trainer.enable_model_summary", "false"),
    ]
    assert main(["fit", *words]) == 0
    assert len([row for row in _logged(tmp_path / "run") if row["loss/total"]]) == 2
    assert read_card(tmp_path / "run" / "weights.safetensors").protocol == "not measured"
    assert (tmp_path / "run" / "predictions.png").is_file()


def test_several_roots_train_together(shells: Path, tmp_path: Path, capsys) -> None:
    """The roots of which only one has a validation split; what the weights say of both."""
    write_folder(tmp_path / "more", splits=("train",))
    (tmp_path / "shells").symlink_to(shells)
    words = [*_tiny(tmp_path, tmp_path / "run", 2), "--data.roots", "{shells: 3, more: 1}"]
    assert main(["fit", *words]) == 0
    card = read_card(tmp_path / "run" / "weights.safetensors")
    assert card.training == "shells, more train, 2 steps"
    assert card.protocol.startswith("shells, more val, perturbed")
    assert main(["fit", *words, "--data.roots", "{shells: 3, less: 1}"]) == 1
    assert "No pairs of image and mask for split train in" in capsys.readouterr().err
    assert main(["fit", *words, "--data.roots", "{shells: 0}"]) == 1
    assert "roots must name at least one folder" in capsys.readouterr().err


@pytest.fixture
def triples(tmp_path: Path) -> Path:
    """Two objects, and a third one whose coarse mask is three pixels."""
    root = tmp_path / "big"
    write_triples(root)
    save_pair(root / "2011_dog_im.jpg", root / "2011_dog_gt.png", 2)
    dots = np.zeros(SIZE, np.uint8)
    dots[4, 4:7] = 255
    Image.fromarray(dots).save(root / "2011_dog_seg.png")
    return root


def test_every_stage_beside_the_coarse_masks(triples: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    weights = _random_weights(tmp_path)
    words = [
        *("--config", "crm_resnet50/big", "--data.root", str(triples), "--model.name", "crm_resnet18"),
        *("--model.weights", str(weights), "--trainer.default_root_dir", str(tmp_path / "run"), *QUIET),
    ]
    assert main(["test", *words]) == 0
    report = json.loads((tmp_path / "run" / "test_scores.json").read_text())
    printed = " ".join(capsys.readouterr().out.split())
    refiner = Refiner.from_weights(weights, device="cpu")
    coarse, stages = [], {name: [] for name in ("0.125", "0.25", "0.5", "1")}
    for path in sorted(triples.glob("*_seg.png")):
        name = path.name.removesuffix("_seg.png")
        mask = np.asarray(Image.open(path))
        truth = np.asarray(Image.open(triples / f"{name}_gt.png").convert("L")) > 128
        image = np.asarray(Image.open(next(triples.glob(f"{name}_im.*"))).convert("RGB"))
        coarse.append((mask > 128, truth))
        for scale, probability in refiner.stages(image, mask):
            refined = (probability * 255).astype(np.uint8) > 128
            # Too small to refine.
            stages[f"{scale:g}"].append((mask > 128 if name == "2011_dog" else refined, truth))
    further = {"s_measure", "e_measure", "weighted_f", "mae", "boundary_iou"}
    for name, pairs in {"coarse": coarse, **stages}.items():
        assert {key: report[name][key] for key in ("iou", "mba")} == pytest.approx(_scores(pairs))
        assert report[name].keys() == {"iou", "mba"} | further
    soft = (np.asarray(Image.open(path)) / 255 for path in sorted(triples.glob("*_seg.png")))
    errors = [np.abs(mask - truth).mean() for mask, (_, truth) in zip(soft, coarse, strict=True)]
    assert report["coarse"]["mae"] == pytest.approx(np.mean(errors))
    assert "S-measure" in printed
    for name in stages:
        gain = report[name]["mba"] - report["coarse"]["mba"]
        assert f"{report[name]['mba']:.2%} │ {gain:+.2%}" in printed
    assert (report["images"], report["small_objects"], report["without_boundary"]) == (3, 1, 0)
    assert "big: whole image, stages" in printed


def test_an_official_checkpoint_is_measured_as_it_is(triples: Path, tmp_path: Path) -> None:
    """Such a file of CRM has no suffix."""
    official = tmp_path / "model_45705"
    torch.save(crm.official_state(raised=1.5), official)
    assert main(["convert", "crm_resnet50", str(official), str(tmp_path / "ours.safetensors")]) == 0
    found = []
    for weights in (official, tmp_path / "ours.safetensors"):
        words = ["--config", "crm_resnet50/big", "--data.root", str(triples), "--model.weights", str(weights), *QUIET]
        assert main(["test", *words, "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
        found.append(json.loads((tmp_path / "run" / "test_scores.json").read_text()))
    assert found[0] == found[1]
    assert found[0]["1"] != found[0]["coarse"]


def test_truth_without_boundary_is_counted_apart(triples: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(triples / "2011_dog_gt.png")
    words = ["--config", "crm_resnet50/big", "--data.root", str(triples), "--model.name", "crm_resnet18", *QUIET]
    assert main(["test", *words, "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
    report = json.loads((tmp_path / "run" / "test_scores.json").read_text())
    assert (report["images"], report["without_boundary"]) == (3, 1)
    assert 0 <= report["1"]["mba"] <= 1


def test_predict_points_to_refine(shells: Path, capsys) -> None:
    words = ["--config", "crm_resnet18/davis", "--data.root", str(shells), *QUIET]
    assert main(["predict", *words]) == 1
    assert "`segscape refine` writes refined masks" in " ".join(capsys.readouterr().err.split())


def test_without_validation_split_nothing_is_validated(tmp_path: Path, capsys) -> None:
    words = ["--config", "crm_resnet50/merged", "--data.root", str(tmp_path), "--model.name", "crm_resnet18", *QUIET]
    assert main(["validate", *words]) == 1
    assert "--data.val_split SPLIT" in capsys.readouterr().err


def test_missing_pairs_are_explained(tmp_path: Path, capsys) -> None:
    assert main(["fit", *_tiny(tmp_path, tmp_path / "run", 2)]) == 1
    assert "No pairs of image and mask for split train" in " ".join(capsys.readouterr().err.split())


def test_unknown_network_lists_near_names(tmp_path: Path, capsys) -> None:
    assert main(["fit", *_tiny(tmp_path, tmp_path / "run", 2), "--model.name", "crm_resnet81"]) == 1
    assert "did you mean crm_resnet18" in " ".join(capsys.readouterr().err.split())
