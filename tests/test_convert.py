"""Official checkpoints: strict, whatever they are wrapped in, and read without executing them."""

import argparse
import pickle
import zipfile
from collections import defaultdict, deque
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

import segscape
from segscape.checkpoints.read import read_state_dict
from segscape.checkpoints.shipped import read_card
from segscape.checkpoints.store import read_weights
from segscape.cli.main import main
from tests.references.bisestdc import official_state


@pytest.fixture(scope="module")
def official() -> dict[str, torch.Tensor]:
    return official_state("stdc1")


@pytest.fixture(scope="module")
def converted(official) -> dict[str, torch.Tensor]:
    return segscape.convert_checkpoint("stdc1_seg", official)


def _equal(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"module." + key: value for key, value in state.items()},
        lambda state: {"model": {"state_dict": {"module." + key: value for key, value in state.items()}}},
        lambda state: {"_orig_mod." + key: value for key, value in state.items()},
        lambda state: {"model._orig_mod.module." + key: value for key, value in state.items()},
        lambda state: {"student": {"net." + key: value for key, value in state.items()}, "optimizer": {}},
        lambda state: {"n_averaged": torch.tensor(3), **{"module." + key: value for key, value in state.items()}},
        lambda state: {"ema": state, "epoch": 3},
        lambda state: {"ema": {"decay": 0.99, "shadow": state}},
    ],
    ids=[
        *("state_dict", "module prefix", "nested", "compiled", "compiled inside", "student", "averaged by torch"),
        *("averaged alone", "in a helper"),
    ],
)
def test_wrappers(official, converted, wrap) -> None:
    assert _equal(segscape.convert_checkpoint("stdc1_seg", wrap(official)), converted)


def test_averaged_weights_are_taken_and_it_is_said(official, converted, caplog, tmp_path: Path) -> None:
    half = {key: value / 2 if value.is_floating_point() else value for key, value in official.items()}
    both = {"state_dict": official, "state_dict_ema": half}
    with caplog.at_level("INFO", logger="segscape"):
        averaged = segscape.convert_checkpoint("stdc1_seg", both)
    assert _equal(averaged, segscape.convert_checkpoint("stdc1_seg", half))
    assert any("averaged ones (state_dict_ema); the averaged ones are taken" in text for text in caplog.messages)
    assert _equal(segscape.convert_checkpoint("stdc1_seg", both, which="raw"), converted)
    torch.save(both, tmp_path / "both.pth")
    words = ["convert", "stdc1_seg", str(tmp_path / "both.pth"), str(tmp_path / "raw.safetensors"), "--which", "raw"]
    assert main(words) == 0
    assert _equal(read_weights(tmp_path / "raw.safetensors")[1], converted)


class _Settings(dict):
    """A foreign class of dictionaries."""


class _Records(list):
    """A foreign class of lists."""


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "foreign",
    [
        defaultdict(list, a=[1]),
        _Settings(a=1),
        _Records([1, 2]),
        deque([1, 2], maxlen=8),
        PurePosixPath("runs/last"),
        np.float64(0.77),
        argparse.Namespace(lr=0.1, steps=[1, 2]),
        {"deep": [_Settings(a=_Records([deque([3])]))]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_frameworks_leave_beside_the_tensors(official, tmp_path: Path, foreign, legacy: bool) -> None:
    torch.save({"meta": foreign, "state_dict": official}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert _equal(read_state_dict(tmp_path / "a.pth")["state_dict"], official)


def test_a_file_of_nothing_but_classes_is_answered_at_once(tmp_path: Path) -> None:
    text = b"\x80\x02](" + b"".join(f"cpackage{number}\nClass\n".encode() for number in range(2000)) + b"e."
    torch.save({}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as plain, zipfile.ZipFile(tmp_path / "many.pth", "w") as many:
        for entry in plain.namelist():
            many.writestr(entry, text if entry.endswith("data.pkl") else plain.read(entry))
    with pytest.raises(ValueError, match="more than 1000 classes of other packages"):
        read_state_dict(tmp_path / "many.pth")


@pytest.mark.parametrize("kept", ["features", "aliases"])
def test_either_name_of_a_doubled_entry_is_enough(official, converted, kept: str) -> None:
    doubled = {key for key in official if ".x" in key}
    features = {key for key in official if ".features." in key}
    dropped = doubled if kept == "features" else features
    # The stages at strides 2 to 32 are all repeated, so nothing is lost without the originals.
    remaining = {key: value for key, value in official.items() if key not in dropped}
    assert _equal(segscape.convert_checkpoint("stdc1_seg", remaining), converted)


def test_every_missing_and_unexpected_entry_is_named(official) -> None:
    broken = dict(official)
    del broken["ffm.conv1.weight"], broken["cp.arm16.bn_atten.bias"]
    broken["decoder.weight"] = torch.zeros(1)
    with pytest.raises(
        ValueError, match=r"2 missing: cp\.arm16\.bn_atten\.bias, ffm\.conv1\.weight; 1 unexpected: decoder"
    ):
        segscape.convert_checkpoint("stdc1_seg", broken)


def test_wrong_shape_is_named(official) -> None:
    broken = {**official, "cp.conv_avg.conv.weight": torch.zeros(128, 512, 1, 1)}
    with pytest.raises(ValueError, match=r"conv_avg.conv.weight \(128, 512, 1, 1\), expected \(128, 1024, 1, 1\)"):
        segscape.convert_checkpoint("stdc1_seg", broken)


def test_another_network_is_refused(official) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        segscape.convert_checkpoint("stdc2_seg", official)
    with pytest.raises(ValueError, match=r"no entry linear\.weight"):
        segscape.convert_checkpoint("stdc1", official)
    with pytest.raises(ValueError, match="no tensors"):
        segscape.convert_checkpoint("stdc1_seg", {"epoch": 1})


class _History:
    """An object of a training framework's own class, whose unpickling runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


class _Logger:
    def __init__(self) -> None:
        self.values = [1.0, 2.0]


@pytest.mark.parametrize("new_format", [True, False])
def test_objects_in_the_pickle_do_not_run(official, converted, tmp_path: Path, new_format: bool) -> None:
    proof = tmp_path / "executed"
    checkpoint = {"meta": _History(proof), "logger": _Logger(), "state_dict": official}
    torch.save(checkpoint, tmp_path / "official.pth", _use_new_zipfile_serialization=new_format)
    state = read_state_dict(tmp_path / "official.pth")
    assert not proof.exists()
    assert _equal(segscape.convert_checkpoint("stdc1_seg", state), converted)


def test_command_writes_a_file_that_segments(official, tmp_path: Path) -> None:
    source, target = tmp_path / "model_maxmIOU50.pth", tmp_path / "out.safetensors"
    torch.save(official, source)
    assert (
        main(["convert", "stdc1_seg", str(source), str(target), "--num-classes", "19", "--labels", "cityscapes"]) == 0
    )
    card = read_card(target)
    assert card.network == "stdc1_seg"
    assert card.class_names[:2] == ("road", "sidewalk")
    network = segscape.Segmenter.from_weights(target).network
    assert torch.equal(network.state_dict()["head.classifier.weight"], official["conv_out.conv_out.weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stdc1_seg", "{good}", "{out}", "--num-classes", "11"], "for 19 classes, not for 11"),
        (["stdc1_seg", "{good}", "{out}", "--num-classes", "19", "--labels", "camvid"], "CamVid has 11 classes"),
        (["stdc1_seg", "{missing}", "{out}", "--num-classes", "19"], "There is no checkpoint"),
        (["stdc1_seg", "{text}", "{out}", "--num-classes", "19"], "cannot be read as a checkpoint"),
        (["nothing", "{good}", "{out}", "--num-classes", "19"], "no network named 'nothing'"),
        (["stdc1_seg", "{good}", "{out}.pth", "--num-classes", "19"], "ends in .safetensors"),
    ],
)
def test_command_explains_and_writes_nothing(official, tmp_path: Path, capsys, arguments, message) -> None:
    names = {key: tmp_path / file for key, file in [("good", "a.pth"), ("text", "b.pth"), ("missing", "c.pth")]}
    torch.save(official, names["good"])
    names["text"].write_text("hello")
    output = tmp_path / "out.safetensors"
    words = [word.format(**names, out=output) for word in arguments]
    assert main(["convert", *words]) == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_pickle_of_no_tensors(tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    path.write_bytes(pickle.dumps([1, 2], protocol=2))
    with pytest.raises(ValueError, match=r"cannot be read as a checkpoint|not a state dict"):
        read_state_dict(path)
