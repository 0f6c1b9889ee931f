"""What tests share: real frames, tiny data sets in their real layouts, and small random weights."""

from __future__ import annotations

import os
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

import segscape
from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.store import inference_state, write_weights
from segscape.labels import CAMVID
from segscape.normalisation import Normalisation

# How long an example takes says nothing on a machine that does other things.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Beside other workers one thread each is fastest.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(scope="session")
def camvid_examples() -> Path:
    """The shipped CamVid frames with their labels: a CamVid folder that has only the split val."""
    return Path(str(files("segscape"))) / "examples" / "camvid"


@pytest.fixture
def camvid_root(tmp_path: Path, camvid_examples: Path) -> Path:
    """A CamVid folder with splits train and val, of frames shrunk to 120 x 90."""
    root = tmp_path / "camvid"
    for split in ("train", "val"):
        for kind, resample in (("images", Image.Resampling.BILINEAR), ("labels", Image.Resampling.NEAREST)):
            folder = root / kind / split
            folder.mkdir(parents=True)
            for path in sorted((camvid_examples / kind / "val").iterdir()):
                Image.open(path).resize((120, 90), resample).save(folder / path.name)
    return root


@pytest.fixture
def cityscapes_root(tmp_path: Path, camvid_examples: Path) -> Path:
    """A Cityscapes folder with splits train and val, its labels holding every id that fits in 8 bits."""
    root = tmp_path / "cityscapes"
    photo = Image.open(sorted((camvid_examples / "images" / "val").iterdir())[0]).resize((128, 64))
    ids = np.arange(34, dtype=np.uint8).repeat(4)
    labels = Image.fromarray(np.resize(ids, (64, 128)))
    for split, city, frames in (("train", "aachen", 4), ("val", "ulm", 2)):
        for folder in ("leftImg8bit", "gtFine"):
            (root / folder / split / city).mkdir(parents=True)
        for frame in range(frames):
            name = f"{city}_{frame:06}_000019"
            photo.save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
            labels.save(root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png")
    return root


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CamVid weights file of an untrained network."""
    torch.manual_seed(0)
    network = segscape.create_model("stdc1_seg", CAMVID.num_classes)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    card = WeightsCard("stdc1_seg", CAMVID.class_names, CAMVID.palette, Normalisation())
    write_weights(path, card, inference_state(network))
    return path


@pytest.fixture(scope="session")
def refiner_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of an untrained refiner."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "refiner.safetensors"
    card = WeightsCard("crm_resnet18", ("foreground",), ((255, 255, 255),), Normalisation())
    write_weights(path, card, segscape.create_model("crm_resnet18").state_dict())
    return path


@pytest.fixture
def street_frame(tmp_path: Path, camvid_examples: Path) -> Path:
    """A copy of a real frame."""
    source = sorted((camvid_examples / "images" / "val").iterdir())[0]
    return Path(shutil.copy(source, tmp_path / "frame.jpg"))
