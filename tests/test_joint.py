"""Several data sets whose classes differ: what labels stand for, the loss, the stream, and a run of it."""

import csv
import json
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision import tv_tensors

from segscape.checkpoints.shipped import read_card
from segscape.cli.main import main
from segscape.config_file import find_config, load_config
from segscape.data.stream import SampleStream, StreamSource
from segscape.data.transforms import CameraAugmentation
from segscape.data.transforms.camera import OtherCamera, ScaledCrop
from segscape.labels import AERIAL, CAMVID, DUBAI, IDD_LITE, ClassMapping, LabelSpec, unions_of
from segscape.losses import Criterion, CrossEntropy, LossTerm, OhemCrossEntropy
from segscape.losses.unions import join_unions
from segscape.training.datamodule import JointDataModule, JointSet
from tests.fake.street import write_idd_lite

RULES = {
    "drivable": ["Road"],
    "non-drivable": ["Pavement"],
    "living thing": ["Pedestrian", "Bicyclist"],
    "vehicle": ["Car", "Bicyclist"],
    "roadside object": ["Fence", "Pole", "SignSymbol", "Building"],
    "far object": ["Building", "Tree"],
    "sky": ["Sky"],
}


def test_rules_become_unions_and_homes() -> None:
    idd = ClassMapping.of(IDD_LITE, CAMVID, RULES)
    unions = unions_of([ClassMapping.same(CAMVID), idd])
    names = CAMVID.class_names
    assert {tuple(names[index] for index in union) for union in unions} == {
        ("Building", "Pole", "SignSymbol", "Fence"),
        ("Building", "Tree"),
        ("Car", "Bicyclist"),
        ("Pedestrian", "Bicyclist"),
    }
    table = idd.table(unions)
    assert table[0] == names.index("Road")
    assert [unions[table[index] - 11] for index in (2, 4)] == [(9, 10), (1, 2, 6, 7)]
    assert table[255] == 255
    homes = {name: IDD_LITE.class_names[home] for name, home in zip(names, idd.home, strict=True)}
    assert homes["Building"] == homes["Tree"] == "far object"
    assert homes["Bicyclist"] == "living thing"
    assert homes["Pole"] == "roadside object"


def test_classes_can_be_left_out_or_stand_for_themselves() -> None:
    dubai = ClassMapping.of(DUBAI, AERIAL, {"land": ["ground"], "road": []})
    assert dubai.members == ((0,), (2,), (), (3,), (4,))
    assert dubai.table(())[2] == 255
    assert dubai.home == (0, 255, 1, 3, 4, 255)
    assert ClassMapping.same(AERIAL).is_same
    assert not dubai.is_same


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, "Dubai has a class 'land' that Aerial has not"),
        ({"land": ["soil"]}, "Aerial has no class 'soil'; it has building, road"),
        ({"land": ["ground"], "sea": ["water"]}, "Dubai has no class 'sea'"),
        ({"land": ["ground", "ground"]}, "names a class twice"),
    ],
)
def test_rules_that_cannot_be_followed(rules: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassMapping.of(DUBAI, AERIAL, rules)


def _summed(logits: torch.Tensor, labels: torch.Tensor, unions: list[tuple[int, ...]]) -> torch.Tensor:
    """Minus the logarithm of the summed probability of each pixel's classes, by plain arithmetic; 0 where ignored."""
    probabilities = logits.double().softmax(1)
    losses = torch.zeros(labels.shape, dtype=torch.float64)
    for place in np.ndindex(*labels.shape):
        label = int(labels[place])
        if label != 255:
            members = (label,) if label < logits.shape[1] else unions[label - logits.shape[1]]
            image, row, column = place
            losses[place] = -sum(probabilities[image, index, row, column] for index in members).log()
    return losses


@given(seed=st.integers(0, 2**20), classes=st.integers(2, 6))
def test_a_union_costs_its_summed_probability(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    unions = [(0, classes - 1), tuple(range(classes))]
    logits = (4 * torch.randn(2, classes, 3, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(0, classes + 2, (2, 3, 4), generator=generator)
    labels[0, 0, 0] = 255
    expected = _summed(logits, labels, unions)
    joined, plain = join_unions(logits, labels, unions)
    assert plain[plain != 255].max() < classes
    found = F.cross_entropy(joined, plain, ignore_index=255, reduction="none")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), logits, retain_graph=True), torch.autograd.grad(expected.sum(), logits)
    )


def test_hard_pixels_and_class_weights_see_unions() -> None:
    torch.manual_seed(0)
    unions = [(0, 2), (1, 2)]
    logits, labels = 3 * torch.randn(2, 3, 8, 8), torch.randint(0, 5, (2, 8, 8))
    losses = _summed(logits, labels, unions).flatten()
    terms = [LossTerm("logits", OhemCrossEntropy(min_kept=40)), LossTerm("aux", CrossEntropy([1.0, 2.0, 5.0]))]
    found = Criterion(terms, align_corners=False, unions=unions, of_classes=("logits", "aux"))(
        {"logits": logits, "aux": logits}, labels
    )
    hard = losses[losses > -np.log(0.7)]
    expected = hard.mean() if len(hard) > 40 else losses.topk(40).values.mean()
    assert float(found["logits"]) == pytest.approx(float(expected), rel=1e-5)
    # A union has the weight of its first class.
    weights = torch.tensor([1.0, 2.0, 5.0, 1.0, 2.0], dtype=torch.float64)[labels.flatten()]
    assert float(found["aux"]) == pytest.approx(float((losses * weights).sum() / weights.sum()), rel=1e-5)


def test_labels_without_unions_cost_what_they_did() -> None:
    logits, labels = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    joined, plain = join_unions(logits, labels, [(0, 1)])
    assert joined is logits
    assert plain is labels


class _Numbers(torch.utils.data.Dataset):
    def __init__(self, name: str, length: int) -> None:
        self.name, self.length = name, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self.name, index


@given(draws=st.lists(st.integers(1, 4), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_every_round_has_its_shares(draws: list[int], seed: int) -> None:
    lengths = [3, 5, 7]
    sources = [
        StreamSource(_Numbers(str(number), lengths[number]), torch.nn.Identity(), draw)
        for number, draw in enumerate(draws)
    ]
    stream = SampleStream(sources, seed=seed)
    size = sum(draws)
    found = [stream[position] for position in range(size * 8)]
    for start in range(0, len(found), size):
        names = [name for name, _ in found[start : start + size]]
        assert [names.count(str(number)) for number in range(len(draws))] == draws
    for number in range(len(draws)):
        given_ = [index for name, index in found if name == str(number)]
        passes = [given_[at : at + lengths[number]] for at in range(0, len(given_), lengths[number])]
        assert all(len(set(one)) == len(one) for one in passes)


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    crop=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    low=st.floats(0.2, 2.0),
    seed=st.integers(0, 2**20),
)
def test_scaled_crops_keep_image_and_labels_together(
    size: tuple[int, int], crop: tuple[int, int], low: float, seed: int
) -> None:
    torch.manual_seed(seed)
    rows = torch.linspace(0, 200, size[0]).round().to(torch.uint8)[:, None].expand(size)
    sample = {"image": tv_tensors.Image(rows.expand(3, *size).clone()), "mask": tv_tensors.Mask(rows.clone())}
    found = ScaledCrop(crop, (low, 2 * low))(sample)
    image, mask = found["image"][0].int(), found["mask"].int()
    assert image.shape == mask.shape == crop
    labelled = mask != 255
    assert labelled.any()
    # A ramp from top to bottom is its own label; the nearest pixel is at most one step of it away from the blend.
    step = 200 / max(size[0] - 1, 1) + 1
    assert (image - mask)[labelled].abs().max() <= step / min(low, 1) + 1
    assert torch.equal(sample["mask"], rows)


@given(
    size=st.tuples(st.integers(5, 70), st.integers(5, 70)),
    crop=st.integers(8, 40),
    pixel=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    seed=st.integers(0, 2**20),
)
def test_balanced_crops_hold_a_class_of_one_pixel(
    size: tuple[int, int], crop: int, pixel: tuple[float, float], seed: int
) -> None:
    torch.manual_seed(seed)
    labels = torch.full(size, 255, dtype=torch.uint8)
    labels[int(pixel[0] * size[0]), int(pixel[1] * size[1])] = 7
    sample = {"image": tv_tensors.Image(torch.zeros(3, *size, dtype=torch.uint8)), "mask": tv_tensors.Mask(labels)}
    # Enlarged twice, each pixel of the image is seen.
    found = ScaledCrop((crop, crop), (2.0, 2.0), aspect=1.0, balanced=1.0)(sample)
    assert (found["mask"] == 7).any()
    nothing = {**sample, "mask": tv_tensors.Mask(torch.full(size, 255, dtype=torch.uint8))}
    assert (ScaledCrop((crop, crop), (2.0, 2.0), balanced=1.0)(nothing)["mask"] == 255).all()


def test_balanced_crops_draw_every_class_as_often() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(1600, 1600, dtype=torch.uint8)
    labels[800:808, 800:808] = 5
    sample = {"image": tv_tensors.Image(torch.zeros(3, 1600, 1600, dtype=torch.uint8)), "mask": tv_tensors.Mask(labels)}
    for balanced, low, high in ((0.0, 0, 5), (0.5, 12, 40), (1.0, 33, 70)):
        crops = ScaledCrop((32, 32), (1.0, 1.0), balanced=balanced)
        found = sum(bool((crops(sample)["mask"] == 5).any()) for _ in range(100))
        assert low <= found <= high, (balanced, found)


def test_other_cameras_leave_labels_alone() -> None:
    torch.manual_seed(0)
    image = tv_tensors.Image(torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8))
    mask = tv_tensors.Mask(torch.randint(0, 5, (40, 50), dtype=torch.uint8))
    before, changed = image.clone(), 0
    for seed in range(30):
        torch.manual_seed(seed)
        found = OtherCamera()({"image": image, "mask": mask})
        torch.manual_seed(seed)
        assert torch.equal(OtherCamera()({"image": image, "mask": mask})["image"], found["image"])
        assert torch.equal(found["mask"], mask)
        assert found["image"].shape == image.shape
        assert found["image"].dtype == torch.uint8
        changed += not torch.equal(found["image"], before)
    assert changed > 25
    assert torch.equal(image, before)


def test_ranges_of_scales() -> None:
    assert JointSet("dubai", "a").scale_range((0.5, 2)) == (0.5, 2)
    assert JointSet("dubai", "a", scales=(1, 2)).scale_range((0.5, 2)) == (1, 2)
    # 0.1 m a pixel seen at 0.2 m is half as large.
    assert JointSet("dubai", "a", resolution=0.1, resolutions=(0.05, 0.2)).scale_range((1, 1)) == (0.5, 2)
    with pytest.raises(ValueError, match="go together"):
        JointSet("dubai", "a", resolution=0.1).scale_range((1, 1))
    with pytest.raises(ValueError, match="scales must be a positive range"):
        CameraAugmentation((8, 8), scales=(2, 1))
    with pytest.raises(ValueError, match="balanced is a share of the crops"):
        CameraAugmentation((8, 8), balanced=50)


@pytest.fixture
def two_sets(tmp_path: Path, camvid_root: Path) -> Path:
    """A folder of CamVid, and of IDD-Lite in its real layout."""
    write_idd_lite(tmp_path / "idd_lite")
    return camvid_root.parent


def _words(root: Path, output: Path) -> list[str]:
    return [
        *("--config", "scapenet_lite0/street", "--data.root", str(root), "--trainer.default_root_dir", str(output)),
        *("--data.batch_size", "4", "--data.augmentation.crop", "[64, 64]", "--data.num_workers", "0"),
        *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--model.pretrained", "null"),
        *("--trainer.enable_model_summary", "false", "--trainer.log_every_n_steps", "1"),
        *("--trainer.max_steps", "2", "--trainer.val_check_interval", "2"),
    ]


def _without_hard_pixels(words: list[str], config: Path) -> list[str]:
    """The recipe with the usual losses: its hard pixels need larger batches."""
    config.write_text(json.dumps({"model": {"losses": None}, "save_every_n_seconds": 1}))
    return [*words[:2], "--config", str(config), *words[2:]]


def test_two_sets_are_trained_and_measured_together(two_sets: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "run"
    words = _without_hard_pixels(_words(two_sets, output), tmp_path / "tiny.yaml")
    assert main(["fit", *words]) == 0
    rows = list(csv.DictReader(next((output / "csv").rglob("metrics.csv")).open()))
    [scores] = [row for row in rows if row["val/miou"]]
    each = [float(scores[f"val/{name}/miou"]) for name in ("CamVid", "IDD-Lite")]
    assert float(scores["val/miou"]) == pytest.approx(sum(each) / 2, abs=1e-5)
    assert {"val/CamVid/iou/Pole", "val/IDD-Lite/iou/far object"} <= set(scores)
    card = read_card(output / "weights.safetensors")
    assert card.class_names == CAMVID.class_names
    assert card.working_size == 512
    assert card.normalisation.mean == (0.5, 0.5, 0.5)
    assert card.training.startswith("CamVid train (1 of 2 crops) + IDD-Lite train (1 of 2 crops), 2 steps")
    assert card.protocol.startswith("CamVid val + IDD-Lite val: whole image, fitted into 512x4096")
    capsys.readouterr()
    weights = str(output / "weights.safetensors")
    validate = ["validate", *words, "--model.weights", weights, "--trainer.logger", "false"]
    assert main(validate) == 0
    printed = capsys.readouterr().out
    assert "far object" in printed
    assert "SignSymbol" in printed
    report = json.loads((output / "val_scores.json").read_text())
    assert [row["miou"] for row in report.values()] == pytest.approx(each, abs=1e-5)
    # A class that stands for none of the network's counts nowhere.
    sets = load_config(find_config("scapenet_lite0/street"))["data"]["sets"]
    sets[1]["classes"]["sky"] = []
    (tmp_path / "without_sky.yaml").write_text(json.dumps({"data": {"sets": sets}}))
    assert main([*validate, "--config", str(tmp_path / "without_sky.yaml")]) == 0
    _, idd = json.loads((output / "val_scores.json").read_text()).values()
    assert idd["iou"].pop("sky") is None
    assert idd["miou"] == pytest.approx(fmean(value for value in idd["iou"].values() if value is not None), abs=1e-5)
    assert set(report["IDD-Lite, whole-fit512x4096-1-direct"]["iou"]) == set(IDD_LITE.class_names)
    assert main(["test", *words, "--model.weights", weights]) == 1
    assert "test each by itself" in capsys.readouterr().err


def test_measured_sets_of_one_kind_go_by_their_folders(tmp_path: Path) -> None:
    sets = [
        JointSet("camvid", "city"),
        JointSet("camvid", "village", draws=2),
        JointSet("idd_lite", "idd", classes={name: ["Car"] for name in IDD_LITE.class_names}),
        JointSet("idd_lite", "more", val_split=None, classes={name: [] for name in IDD_LITE.class_names}),
    ]
    data = JointDataModule(
        sets=sets, root=str(tmp_path), labels="camvid", augmentation=CameraAugmentation((32, 32)), batch_size=2
    )
    assert [each.own.name for each in data.maps] == ["CamVid (city)", "CamVid (village)", "IDD-Lite"]
    assert data.described("val") == "CamVid (city) val + CamVid (village) val + IDD-Lite val"
    assert data.described("train").startswith("CamVid (city) train (1 of 5 crops) + CamVid (village) train (2 of 5")


def test_too_many_unions() -> None:
    own = LabelSpec("own", tuple("abcdefgh"), ((0, 0, 0),) * 8, {index: index for index in range(8)})
    pairs = [
        ClassMapping(own, own, tuple((i, j) for i in range(8) for j in range(i + 1, 8))[:8]),
        *(ClassMapping(own, own, ((0, 1, 2 + k % 6),) * 8) for k in range(3)),
    ]
    assert len(unions_of(pairs)) == 11
    wide = LabelSpec("wide", tuple(map(str, range(250))), ((0, 0, 0),) * 250, {index: index for index in range(250)})
    with pytest.raises(ValueError, match="5 is the most"):
        unions_of([ClassMapping(wide, wide, tuple((index, index + 1) for index in range(6)))])
