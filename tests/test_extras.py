"""Every extra, in an environment that has the package's own requirements and those of that extra, and nothing else.

The environment has links to the libraries that run these tests: nothing is downloaded, and what is not linked is not
there.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import segscape
from tests.fake.data_sets import WRITERS

ROOT = Path(__file__).parent.parent
FRAMES = Path(segscape.__file__).parent / "examples" / "camvid" / "images" / "val"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [name for name in PROJECT["optional-dependencies"] if name not in ("all", "dev", "docs")]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _closure(requirements: list[str]) -> dict[str, Distribution]:
    """Return the distributions that requirements need, theirs included."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        extras = {"", *wanted.extras}
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if _canonical(wanted.name) == "segscape":
            waiting += [
                Requirement(text) for extra in wanted.extras for text in PROJECT["optional-dependencies"][extra]
            ]
            continue
        key = f"{_canonical(wanted.name)}[{','.join(sorted(wanted.extras))}]"
        if key in found:
            continue
        try:
            found[key] = distribution(wanted.name)
        except PackageNotFoundError:
            # For another platform, or an option of a library that is not installed here.
            continue
        for text in found[key].requires or []:
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                inner.marker = None
                waiting.append(inner)
    return found


def _environment(folder: Path, extras: list[str]) -> Path:
    """Create an environment with the requirements of the package and of extras; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    wanted = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    closure = {_canonical(found.metadata["Name"]): found for found in _closure(wanted).values()}
    closure["segscape"] = distribution("segscape")
    # Folders that several packages share, such as those of NVIDIA's libraries, are linked one level deeper.
    owners = Counter()
    for found in distributions():
        owners.update({path.parts[0] for path in found.files or [] if path.parts[0] not in ("..", "__pycache__")})
    for found in closure.values():
        for path in found.files or []:
            if path.parts[0] in ("..", "__pycache__") or path.suffix == ".pth":
                continue
            depth = 2 if owners[path.parts[0]] > 1 and len(path.parts) > 1 else 1
            place = site.joinpath(*path.parts[:depth])
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(Path(str(found.locate_file("")), *path.parts[:depth]).resolve())
    return folder / "bin" / "python"


def _segscape(python: Path, *words: object) -> str:
    """Run a command in an environment and return what it printed; fail if the command does."""
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    command = [python, "-m", "segscape", *map(str, words)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    Image.open(next(FRAMES.glob("*.jpg"))).resize((160, 120)).save(path)
    return path


def _lacks(python: Path, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode != 0


def test_the_package_alone_does_photographs_scenes_masks_and_cut_outs(photo: Path, tmp_path: Path) -> None:
    import rasterio
    from rasterio.transform import from_origin

    python = _environment(tmp_path / "env", [])
    assert all(_lacks(python, module) for module in ("lightning", "av", "onnxruntime", "openvino", "ray", "pytest"))
    _segscape(python, "segment", photo, "--output", tmp_path / "photos", "--overlay")
    assert Image.open(tmp_path / "photos" / "photo.png").size == (160, 120)
    scene = tmp_path / "scene.tif"
    pixels = np.asarray(Image.open(photo)).transpose(2, 0, 1)
    place = {"crs": "EPSG:32632", "transform": from_origin(5e5, 5e6, 0.3, 0.3)}
    with rasterio.open(scene, "w", driver="GTiff", width=160, height=120, count=3, dtype="uint8", **place) as file:
        file.write(pixels)
    words = ["--weights", "scapenet_lite0.aerial", "--output", tmp_path / "maps", "--polygons", "gpkg"]
    _segscape(python, "segment", scene, *words)
    assert (tmp_path / "maps" / "scene.gpkg").stat().st_size
    _segscape(python, "refine", photo, tmp_path / "photos" / "photo.png", "--output", tmp_path / "refined.png")
    _segscape(python, "cutout", photo, "--output", tmp_path / "cut")
    _segscape(python, "data", "check", FRAMES.parent.parent)
    _segscape(python, "models", "--size", "64", "64")
    assert "train: jsonargparse missing" not in _segscape(python, "doctor", "--no-speed")


def _do_train(python: Path, folder: Path, photo: Path) -> None:
    WRITERS["camvid"](folder / "camvid")
    words = [
        "--data.root",
        folder / "camvid",
        "--data.num_workers",
        0,
        "--data.batch_size",
        2,
        "--trainer.fast_dev_run",
        1,
    ]
    _segscape(python, "fit", "--config", "stdc1_seg/camvid", *words, "--trainer.default_root_dir", folder / "run")


def _do_imagenet(python: Path, folder: Path, photo: Path) -> None:
    code = (
        "import segscape; from segscape.checkpoints.backbone import load_pretrained; "
        "network = segscape.create_model('scapenet_lite0', 5); load_pretrained(network, 'scapenet_lite0', 'imagenet')"
    )
    environment = {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr


def _do_video(python: Path, folder: Path, photo: Path) -> None:
    import av

    with av.open(str(folder / "film.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(3):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(Image.open(photo)), format="rgb24")))
        film.mux(stream.encode())
    _segscape(python, "segment", folder / "film.mp4", "--output", folder / "out")
    assert (folder / "out" / "film.mp4").stat().st_size


def _do_onnx(python: Path, folder: Path, photo: Path) -> None:
    words = ["--format", "onnx", "--size", "dynamic", "--output", folder / "street.onnx"]
    _segscape(python, "export", "scapenet_lite0.street", *words)
    _segscape(python, "segment", photo, "--weights", folder / "street.onnx", "--output", folder / "out")


def _do_openvino(python: Path, folder: Path, photo: Path) -> None:
    _segscape(python, "segment", photo, "--runtime", "openvino", "--output", folder / "out")


def _do_int8(python: Path, folder: Path, photo: Path) -> None:
    _segscape(python, "segment", photo, "--runtime", "openvino", "--precision", "int8", "--output", folder / "out")


def _do_cluster(python: Path, folder: Path, photo: Path) -> None:
    _segscape(python, "segment", photo, "--engine", "ray", "--output", folder / "out")


@pytest.mark.parametrize(
    "extra", [pytest.param(name, marks=pytest.mark.heavy if name in ("int8", "cluster") else ()) for name in EXTRAS]
)
def test_an_extra_is_what_its_feature_needs(extra: str, photo: Path, tmp_path: Path) -> None:
    python = _environment(tmp_path / "env", [extra])
    globals()[f"_do_{extra}"](python, tmp_path, photo)
    shutil.rmtree(tmp_path / "env")


def test_all_extras_are_in_all() -> None:
    [everything] = PROJECT["optional-dependencies"]["all"]
    named = set(re.search(r"\[(.*)\]", everything)[1].split(","))
    # `int8` brings `openvino`.
    assert named | {"openvino"} == set(EXTRAS)
