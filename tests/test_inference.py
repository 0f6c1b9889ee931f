"""The segmenter, and weights files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import segscape
from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.shipped import find_weights, read_card
from segscape.checkpoints.store import inference_state, read_weights, write_weights
from segscape.labels import CAMVID
from segscape.normalisation import Normalisation
from segscape.viz.overlay import colourise


def test_normalisation_equals_torchvision(camvid_examples: Path) -> None:
    from torchvision.transforms import v2

    path = next((camvid_examples / "images" / "val").iterdir())
    image = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)
    expected = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )(image)
    ours = Normalisation()(image[None])[0]
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def segmenter(random_weights: Path) -> segscape.Segmenter:
    return segscape.Segmenter.from_weights(random_weights, device="cpu")


def test_path_image_and_array_agree(segmenter: segscape.Segmenter, street_frame: Path) -> None:
    image = Image.open(street_frame)
    results = [segmenter.segment(source) for source in (street_frame, str(street_frame), image, np.asarray(image))]
    for result in results:
        assert result.labels.shape == (360, 480)
        assert result.labels.dtype == np.uint8
        assert np.array_equal(result.labels, results[0].labels)
    assert results[0].class_names == CAMVID.class_names
    assert results[0].palette == CAMVID.palette


def test_labels_equal_the_plain_pipeline(segmenter: segscape.Segmenter, street_frame: Path) -> None:
    pixels = torch.from_numpy(np.asarray(Image.open(street_frame)).copy())
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    batch = ((pixels / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = segmenter.network(batch)
    expected = F.interpolate(logits, (360, 480), mode="bilinear", align_corners=True).argmax(1)[0]
    assert (segmenter.segment(street_frame).labels == expected.numpy()).mean() > 0.9999


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (37, 3), (129, 65)])
def test_tiny_and_odd_sizes(segmenter: segscape.Segmenter, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    result = segmenter.segment(image)
    assert result.labels.shape == shape
    assert result.overlay().shape == (*shape, 3)
    assert sum(result.shares().values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "array",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)],
)
def test_wrong_arrays_are_explained(segmenter: segscape.Segmenter, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 3\) of uint8"):
        segmenter.segment(array)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_wrong_devices_are_explained(random_weights: Path, device: str) -> None:
    with pytest.raises(ValueError, match=f"device {device} cannot be used here"):
        segscape.Segmenter.from_weights(random_weights, device=device)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_every_mode_of_picture(segmenter: segscape.Segmenter, tmp_path: Path, mode: str) -> None:
    grey = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    path = tmp_path / ("picture.tif" if mode in ("CMYK", "I;16") else "picture.png")
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(grey).convert("RGB").convert(mode).save(path)
    result = segmenter.segment(path)
    assert result.image.shape == (48, 64, 3)
    tolerance = 255 if mode in ("1", "P") else 2
    assert np.abs(result.image[..., 0].astype(int) - grey).max() <= tolerance


def test_orientation_tag_is_applied(segmenter: segscape.Segmenter, street_frame: Path, tmp_path: Path) -> None:
    image = Image.open(street_frame)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert segmenter.segment(tmp_path / "turned.jpg").labels.shape == (480, 360)


def test_save_round_trip(segmenter: segscape.Segmenter, street_frame: Path, tmp_path: Path) -> None:
    result = segmenter.segment(street_frame)
    result.save(tmp_path / "labels.png")
    saved = Image.open(tmp_path / "labels.png")
    assert saved.mode == "P"
    assert np.array_equal(np.asarray(saved), result.labels)
    assert np.array_equal(np.asarray(saved.convert("RGB")), colourise(result.labels, result.palette))
    with pytest.raises(ValueError, match=r"name the file \.png"):
        result.save(tmp_path / "labels.jpg")


def test_overlay_mixes_evenly(segmenter: segscape.Segmenter, street_frame: Path) -> None:
    result = segmenter.segment(street_frame)
    assert np.array_equal(result.overlay(0.0), result.image)
    assert np.array_equal(result.overlay(1.0), colourise(result.labels, result.palette))


def test_card_round_trip() -> None:
    card = WeightsCard(
        "stdc1_seg",
        ("a", "b"),
        ((1, 2, 3), (4, 5, 6)),
        Normalisation(),
        training_size=(64, 96),
        working_size=480,
        working_resolution=(0.05, 0.5),
        training="by hand",
        score={"miou": 0.5},
        protocol="val",
        licence="MIT",
    )
    assert WeightsCard.from_json(card.to_json()) == card
    assert json.loads(card.to_json())["num_classes"] == 2


def test_half_precision_files_load_as_float32(tmp_path: Path) -> None:
    network = segscape.create_model("stdc1_seg", 3)
    half = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    card = WeightsCard("stdc1_seg", ("a", "b", "c"), ((0, 0, 0),) * 3, Normalisation())
    write_weights(tmp_path / "half.safetensors", card, half)
    loaded = segscape.create_model("stdc1_seg", weights=tmp_path / "half.safetensors")
    for key, value in loaded.state_dict().items():
        assert value.dtype in (torch.float32, torch.int64)
        assert torch.equal(value, half[key].to(value.dtype))


def test_shipped_weights_are_found() -> None:
    assert any("street" in name for name in segscape.list_weights())
    for name in segscape.list_weights():
        card = read_card(find_weights(name))
        assert name.startswith(f"{card.network}.")
        if card.network in segscape.list_models(task="refinement"):
            assert card.score["mba"] > card.score["mba_coarse"]
        else:
            scores = [score for measure, score in card.score.items() if measure.startswith("miou")]
            assert scores
            assert min(scores) > 0.5
        assert card.licence != "not stated"
        assert find_weights(name).stat().st_size <= 15e6
        assert segscape.create_model(card.network, card.num_classes, weights=name).training is False


def test_wrong_weights_are_explained(random_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights nothing; .* scapenet_lite0\.street"):
        segscape.Segmenter.from_weights("nothing")
    with pytest.raises(ValueError, match="weights of stdc1_seg, not of bisestdc"):
        segscape.create_model("bisestdc", weights=random_weights)
    with pytest.raises(ValueError, match="for 11 classes, not for 19"):
        segscape.create_model("stdc1_seg", 19, weights=random_weights)
    plain = tmp_path / "plain.safetensors"
    save_file(load_file(random_weights), plain)
    with pytest.raises(ValueError, match="no Segscape card"):
        segscape.Segmenter.from_weights(plain)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(random_weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cannot be read as a weights file"):
        segscape.Segmenter.from_weights(cut)


def test_incomplete_weights_name_the_entries(random_weights: Path, tmp_path: Path) -> None:
    card, state = read_weights(random_weights)
    del state["head.classifier.weight"]
    state["surplus"] = torch.zeros(1)
    write_weights(tmp_path / "bad.safetensors", card, state)
    with pytest.raises(ValueError, match=r"missing \['head\.classifier\.weight'\], unexpected \['surplus'\]"):
        segscape.create_model("stdc1_seg", weights=tmp_path / "bad.safetensors")


def test_training_heads_need_not_travel(random_weights: Path) -> None:
    network = segscape.create_model("stdc1_seg", weights=random_weights)
    names = set(network.state_dict()) - set(inference_state(network))
    assert names
    assert all(name.startswith(("aux16.", "aux32.", "detail.")) for name in names)
    assert not names & set(load_file(random_weights))


def test_the_shipped_weights_see_the_street(camvid_examples: Path) -> None:
    """Real frames with real labels: a class map that is off by one, or mirrored, fails here."""
    from segscape.data.datasets import CamVid

    segmenter = segscape.Segmenter.from_weights("scapenet_lite0.street", device="cpu")
    right = labelled = 0
    for pair in CamVid(camvid_examples, "val").pairs:
        truth = CAMVID.to_indices(np.asarray(Image.open(pair.mask)))
        predicted = segmenter.segment(pair.image).labels
        counted = truth != CAMVID.ignore_index
        right += int((predicted == truth)[counted].sum())
        labelled += int(counted.sum())
    assert right / labelled > 0.8
