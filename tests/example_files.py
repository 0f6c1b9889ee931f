"""The files that examples of docstrings and pages name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

EXAMPLES = Path(str(files("segscape"))) / "examples"


def put_example_files(folder: Path, code: str) -> None:
    """Write those files into a folder that a piece of code names: photo.jpg, mask.png, scene.tif, official.pth."""
    if "photo.jpg" in code:
        _put_photo(folder)
    if "scene.tif" in code:
        _put_scene(folder / "scene.tif")
    if "official.pth" in code:
        _put_official(folder / "official.pth")


def _put_photo(folder: Path) -> None:
    """Write a photograph, and the mask of its object."""
    from PIL import Image

    size = (240, 160)
    Image.open(EXAMPLES / "refine" / "aeroplane.jpg").resize(size).save(folder / "photo.jpg")
    Image.open(EXAMPLES / "refine" / "aeroplane.png").resize(size, Image.Resampling.NEAREST).save(folder / "mask.png")


def _put_scene(path: Path) -> None:
    """Write a small GeoTIFF."""
    import numpy as np
    import rasterio
    from affine import Affine

    place = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
    form = {"driver": "GTiff", "height": 120, "width": 160, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:32632", transform=place, **form) as scene:
        scene.write(np.random.default_rng(0).integers(0, 255, (3, 120, 160), dtype=np.uint8))


def _put_official(path: Path) -> None:
    """Write a checkpoint of untrained weights under the names of the authors of STDC-Seg."""
    import torch

    import segscape
    from segscape.checkpoints.convert import to_official

    torch.save({"state_dict": to_official("stdc1_seg", segscape.create_model("stdc1_seg", 19).state_dict())}, path)
