"""The files that the examples of docstrings name, in the folder in which each example runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent / "src" / "segscape" / "examples"


@pytest.fixture(autouse=True)
def _files_of_examples(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run a docstring's examples in a folder of their own that holds the files which they read."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    folder = tmp_path_factory.mktemp("examples")
    words = "".join(example.source for example in request.node.dtest.examples)
    if "photo.jpg" in words:
        _write_photo(folder)
    if "scene.tif" in words:
        _write_scene(folder / "scene.tif")
    if "official.pth" in words:
        _write_official(folder / "official.pth")
    before = Path.cwd()
    os.chdir(folder)
    yield
    os.chdir(before)


def _write_photo(folder: Path) -> None:
    """Write a photograph, `photo.jpg`, and the mask of its object, `mask.png`."""
    from PIL import Image

    size = (240, 160)
    Image.open(EXAMPLES / "refine" / "aeroplane.jpg").resize(size).save(folder / "photo.jpg")
    Image.open(EXAMPLES / "refine" / "aeroplane.png").resize(size, Image.Resampling.NEAREST).save(folder / "mask.png")


def _write_scene(path: Path) -> None:
    """Write a small GeoTIFF."""
    import numpy as np
    import rasterio

    place = rasterio.transform.from_origin(500_000, 5_000_000, 0.5, 0.5)
    form = {"driver": "GTiff", "height": 120, "width": 160, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:32632", transform=place, **form) as scene:
        scene.write(np.random.default_rng(0).integers(0, 255, (3, 120, 160), dtype=np.uint8))


def _write_official(path: Path) -> None:
    """Write a checkpoint of untrained weights under the names of the authors of STDC-Seg."""
    import torch

    import segscape
    from segscape.checkpoints.convert import to_official

    torch.save({"state_dict": to_official("stdc1_seg", segscape.create_model("stdc1_seg", 19).state_dict())}, path)
