"""Label tables, data sets in their layouts, and the order of samples."""

import pickle
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image

from segscape.cli.main import main
from segscape.data.datasets import CamVid, Cityscapes
from segscape.data.stream import SampleStream, StreamSampler, StreamSource
from segscape.data.transforms import StdcAugmentation
from segscape.labels import CAMVID, CITYSCAPES

# Cityscapes' labelId to trainId as its authors publish it: the ids that count, in the order of their train ids.
EVALUATED_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def test_cityscapes_maps_all_35_ids() -> None:
    assert sorted(CITYSCAPES.raw_to_index) == list(range(-1, 34))
    raw = np.array([[*range(34), 255]], np.uint8)
    expected = [EVALUATED_IDS.index(i) if i in EVALUATED_IDS else 255 for i in range(34)] + [255]
    assert CITYSCAPES.to_indices(raw).tolist() == [expected]
    assert dict(zip(CITYSCAPES.class_names, CITYSCAPES.palette, strict=True))["bicycle"] == (119, 11, 32)


def test_strange_values_are_counted() -> None:
    raw = np.array([[0, 10, 11, 11, 77, 255]], np.uint8)
    with pytest.raises(ValueError, match=r"11 \(2 pixels\), 77 \(1 pixels\)"):
        CAMVID.to_indices(raw)


def test_camvid_reads_real_frames(camvid_examples: Path) -> None:
    dataset = CamVid(camvid_examples, "val")
    assert len(dataset) == 5
    sample = dataset[0]
    assert sample["image"].shape == (3, 360, 480)
    assert sample["name"] == "0016E5_07959"
    raw = np.asarray(Image.open(dataset.pairs[0].mask))
    assert np.array_equal(sample["mask"].numpy(), raw)
    rgb = np.asarray(Image.open(dataset.pairs[0].image))
    assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), rgb)


def test_cityscapes_splits(cityscapes_root: Path) -> None:
    assert [len(Cityscapes(cityscapes_root, split)) for split in ("train", "val", "trainval")] == [4, 2, 6]
    sample = Cityscapes(cityscapes_root, "val")[0]
    assert sample["name"] == "ulm_000000_000019"
    assert set(np.unique(sample["mask"])) == {*range(19), 255}


def test_unknown_split(camvid_root: Path) -> None:
    with pytest.raises(ValueError, match="no split 'validation'; it has train, val, test"):
        CamVid(camvid_root, "validation")


def test_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected leftImg8bit/<split>"):
        Cityscapes(tmp_path, "train")


def _damage_missing(image: Path, mask: Path) -> None:
    mask.unlink()


def _damage_cut(image: Path, mask: Path) -> None:
    image.write_bytes(image.read_bytes()[:300])


def _damage_size(image: Path, mask: Path) -> None:
    Image.open(mask).crop((0, 0, 50, 50)).save(mask)


def _damage_value(image: Path, mask: Path) -> None:
    Image.fromarray(np.full((90, 120), 42, np.uint8)).save(mask)


def _damage_colour(image: Path, mask: Path) -> None:
    Image.open(mask).convert("RGB").save(mask)


DAMAGES = {
    _damage_missing: "has no label file",
    _damage_cut: "cannot be decoded",
    _damage_size: "50 x 50 pixels but its image",
    _damage_value: r"42 \(10800 pixels\)",
    _damage_colour: "has mode RGB; a label file has one channel",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_problems_name_their_file(camvid_root: Path, capsys: pytest.CaptureFixture[str], damage) -> None:
    image, mask = (
        sorted((camvid_root / "images/train").iterdir())[2],
        sorted((camvid_root / "labels/train").iterdir())[2],
    )
    damage(image, mask)
    with pytest.raises((ValueError, FileNotFoundError), match=DAMAGES[damage]) as caught:
        _ = [CamVid(camvid_root, "train")[index] for index in range(5)]
    assert image.stem in str(caught.value)
    assert main(["data", "check", str(camvid_root)]) == 1
    printed = capsys.readouterr().out
    assert "1 problem(s)" in printed
    assert image.stem in printed


def test_check_counts(camvid_root: Path, camvid_examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(camvid_examples)]) == 0
    printed = capsys.readouterr().out
    assert "CamVid in" in printed
    assert "val: 5 samples (5 of 480 x 360)" in printed
    pixels = sum(int((sample["mask"] == 3).sum()) for sample in CamVid(camvid_examples, "val"))
    assert f"{pixels} (" in printed
    assert "0 problem(s)" in printed


def test_check_counts_a_joined_split_once(cityscapes_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next((cityscapes_root / "gtFine" / "val").rglob("*.png")).unlink()
    assert main(["data", "check", str(cityscapes_root)]) == 1
    printed = capsys.readouterr().out
    assert "train: 4 samples" in printed
    assert "val: 1 samples" in printed
    assert "trainval" not in printed
    assert "1 problem(s)" in printed


def test_stream_can_be_sent_to_another_process(camvid_root: Path) -> None:
    copy = pickle.loads(pickle.dumps(_stream(camvid_root)))
    assert torch.equal(copy[7]["image"], _stream(camvid_root)[7]["image"])


def test_check_of_a_strange_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "layout of no known data set" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "no")]) == 1
    assert "no folder" in capsys.readouterr().err


def _stream(root: Path) -> SampleStream:
    return SampleStream([StreamSource(CamVid(root, "train"), StdcAugmentation(crop=(32, 48)).build(CAMVID))], seed=3)


def test_stream_is_a_function_of_the_position(camvid_root: Path) -> None:
    first, second = _stream(camvid_root), _stream(camvid_root)
    torch.manual_seed(1)
    expected = [first[position] for position in range(12)]
    torch.manual_seed(2)
    for position in (11, 4, 0):
        assert torch.equal(second[position]["image"], expected[position]["image"])
        assert torch.equal(second[position]["mask"], expected[position]["mask"])
    for epoch in range(2):
        assert {sample["name"] for sample in expected[5 * epoch : 5 * epoch + 5]} == set(_names(camvid_root))


def _names(root: Path) -> list[str]:
    return [pair.name for pair in CamVid(root, "train").pairs]


def test_stream_leaves_the_global_generator_alone(camvid_root: Path) -> None:
    stream = _stream(camvid_root)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    _ = stream[0]
    assert torch.equal(torch.rand(1), expected)


@given(length=st.integers(1, 50), batch=st.integers(1, 6), world=st.integers(1, 4), epoch=st.integers(0, 3))
def test_processes_share_an_epoch(length: int, batch: int, world: int, epoch: int) -> None:
    steps = length // (batch * world)
    shares = []
    for rank in range(world if steps else 0):
        sampler = StreamSampler(length, batch, lambda: epoch * steps, rank=rank, world_size=world)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    positions = sorted(position for share in shares for position in share)
    assert positions == list(range(epoch * length, epoch * length + steps * batch * world))
    for step in range(steps):
        joint = [p for share in shares for p in share[step * batch : (step + 1) * batch]]
        assert max(joint) - min(joint) == batch * world - 1


def test_sampler_goes_on_within_an_epoch() -> None:
    taken = 5
    sampler = StreamSampler(10, 3, lambda: taken)
    assert list(sampler) == [16, 17, 18]
    taken = 6
    assert list(sampler) == list(range(20, 29))
    assert len(sampler) == 9
