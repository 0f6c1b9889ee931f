"""The command line as a user meets it: what it writes, what it says, and what it never does."""

import ast
import errno
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segscape
from segscape.cli.commands import demo
from segscape.cli.main import main
from segscape.cli.run import _EXTRAS
from segscape.files import atomic_path
from segscape.labels import CAMVID

ROOT = Path(__file__).parents[1]


@pytest.fixture
def frames(tmp_path: Path, camvid_examples: Path) -> Path:
    """A folder with two small frames, one of them in a subfolder."""
    folder = tmp_path / "frames"
    (folder / "night").mkdir(parents=True)
    sources = sorted((camvid_examples / "images" / "val").iterdir())
    for source, target in zip(sources, ("a.jpg", "night/b.png"), strict=False):
        Image.open(source).resize((96, 72)).save(folder / target)
    return folder


def _segment(weights: Path, output: Path, *inputs: object) -> int:
    return main(["segment", *map(str, inputs), "--weights", str(weights), "--output", str(output), "--device", "cpu"])


def test_files_folders_and_globs(random_weights: Path, frames: Path, tmp_path: Path, capsys) -> None:
    expected = segscape.Segmenter.from_weights(random_weights, device="cpu").segment(frames / "a.jpg").labels
    assert _segment(random_weights, tmp_path / "one", frames / "a.jpg") == 0
    assert _segment(random_weights, tmp_path / "folder", frames, "--overlay") == 0
    assert _segment(random_weights, tmp_path / "glob", frames / "**" / "*.[jp][pn]g") == 0
    written = Image.open(tmp_path / "one" / "a.png")
    assert np.array_equal(np.asarray(written), expected)
    assert written.getpalette()[:3] == list(CAMVID.palette[0])
    names = {str(path.relative_to(tmp_path / "folder")) for path in (tmp_path / "folder").rglob("*.*")}
    assert names == {"a.png", "a_overlay.jpg", "night/b.png", "night/b_overlay.jpg"}
    assert {path.name for path in (tmp_path / "glob").iterdir()} == {"a.png", "b.png"}
    assert Image.open(tmp_path / "folder" / "a_overlay.jpg").size == (96, 72)
    printed = capsys.readouterr().out
    for word in ("read", "network", "labels", "write", "96 x 72", "2 label map(s)"):
        assert word in printed


def test_a_folder_twice_into_itself(random_weights: Path, frames: Path) -> None:
    """Neither the first run's results nor a system's hidden files are taken for images."""
    shutil.copy(frames / "a.jpg", frames / "._a.jpg")
    for _ in range(2):
        assert _segment(random_weights, frames / "labels", frames, "--overlay") == 0
    names = {str(path.relative_to(frames / "labels")) for path in (frames / "labels").rglob("*.*")}
    assert names == {"a.png", "a_overlay.jpg", "night/b.png", "night/b_overlay.jpg"}


def test_an_image_named_twice_is_done_once(random_weights: Path, frames: Path, tmp_path: Path, capsys) -> None:
    assert _segment(random_weights, tmp_path / "out", frames / "a.jpg", frames / "a.jpg") == 0
    assert "1 label map(s)" in capsys.readouterr().out


def test_one_bad_image_is_reported_and_skipped(random_weights: Path, frames: Path, tmp_path: Path, capsys) -> None:
    (frames / "cut.jpg").write_bytes((frames / "a.jpg").read_bytes()[:700])
    (frames / "text.png").write_text("not a picture")
    missing = frames / "nothing.png"
    output = tmp_path / "out"
    assert _segment(random_weights, output, frames / "cut.jpg", missing, frames / "a.jpg", frames / "text.png") == 3
    captured = capsys.readouterr()
    assert f"error: There is no file {missing}." in captured.err
    assert "cut.jpg cannot be decoded" in captured.err
    assert "text.png is not an image that can be read" in captured.err
    assert "3 of 4 image(s) could not be segmented" in captured.out
    assert [path.name for path in output.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["{frames}/*.bmp"], "Nothing matches"),
        (["{empty}"], "There are no images in"),
        (["{frames}/a.jpg", "{frames}/other/a.png"], "would both be written to"),
        (["{frames}/night/b.png", "--output", "{frames}/night"], "would be overwritten"),
        (["{frames}/a.jpg", "--weights", "stdc9"], "There are no weights stdc9"),
    ],
)
def test_bad_arguments_stop_before_any_work(
    random_weights: Path, frames: Path, tmp_path: Path, capsys, inputs, message
) -> None:
    (tmp_path / "empty").mkdir()
    (frames / "other").mkdir()
    shutil.copy(frames / "night" / "b.png", frames / "other" / "a.png")
    before = (frames / "night" / "b.png").read_bytes()
    words = ["segment", "--weights", str(random_weights), "--output", str(tmp_path / "out")]
    assert main([*words, *(word.format(frames=frames, empty=tmp_path / "empty") for word in inputs)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("error:") == 1
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
    assert (frames / "night" / "b.png").read_bytes() == before


@pytest.mark.parametrize("name", ["pipe.png", "loop.png", "pipe.tif", "pipe.mp4"])
def test_pipes_and_links_in_circles_end_at_once(
    name: str, random_weights: Path, frames: Path, tmp_path: Path, capsys
) -> None:
    place = frames / name
    if name.startswith("pipe"):
        os.mkfifo(place)
    else:
        place.symlink_to("other.png")
        (frames / "other.png").symlink_to(name)
    assert _segment(random_weights, tmp_path / "alone", place) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert f"{name} is no file, but a folder, a pipe or a device." in error or f"There is no file {place}." in error
    assert not list((tmp_path / "alone").glob("*"))
    # In a folder they are passed over.
    assert _segment(random_weights, tmp_path / "out", frames) == 0
    assert (tmp_path / "out" / "a.png").is_file()


def test_the_extra_that_is_named_provides_the_import() -> None:
    """By the package's own metadata."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    provided = {}
    for extra, requirements in metadata.items():
        for requirement in requirements if extra not in ("dev", "docs") else ():
            name = re.match(r"[\w-]+", requirement)[0]
            if name != "segscape":
                provided[name.replace("-", "_").lower()] = extra
    assert provided == _EXTRAS
    # What modules say themselves.
    calls = [
        node
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ModuleNotFoundError"
    ]
    assert len(calls) > 5
    for call in calls:
        package = next(word.value for word in call.keywords if word.arg == "name")
        # What is in no extra belongs to the package, and is brought by its own name; of polygons it is in a variable.
        name = package.value if isinstance(package, ast.Constant) else "{name}"
        wanted = f"'segscape[{provided[name]}]'" if name in provided else name
        assert f"pip install {wanted}" in ast.unparse(call).replace("\\'", "'")


@pytest.mark.parametrize(("package", "advice"), [("av", "'segscape[video]'"), ("numpy", "--force-reinstall segscape")])
def test_a_missing_package_is_said_with_what_brings_it(package: str, advice: str, monkeypatch, capsys) -> None:
    def run_without(arguments: object) -> int:
        raise ModuleNotFoundError("there is none", name=f"{package}.part")

    monkeypatch.setattr("segscape.cli.commands.models.run", run_without)
    assert main(["models"]) == 1
    assert f"needs the package {package}: pip install {advice}" in " ".join(capsys.readouterr().err.split())


def test_output_that_cannot_be_written(random_weights: Path, frames: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "out").write_text("a file, not a folder")
    assert _segment(random_weights, tmp_path / "out", frames / "a.jpg") == 1
    assert "error:" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "a file, not a folder"


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "labels.png"
    target.write_text("before")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["labels.png"]


def test_models_lists_networks_and_weights(capsys) -> None:
    assert main(["models", "--size", "512", "1024"]) == 0
    printed = capsys.readouterr().out
    for word in (
        "stdc1_seg",
        "8.28 M",
        "16.86",
        "bisestdc",
        "50.79",
        "crm_resnet50",
        "scapenet_lite0.street",
        "miou CamVid 0.",
    ):
        assert word in printed
    assert main(["models", "stdc2*"]) == 0
    assert "bisestdc" not in capsys.readouterr().out.split("weights")[0]


def test_demo(refiner_weights: Path, camvid_examples: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """With the street frames as they ship, a smaller aeroplane and an untrained refiner."""
    examples = tmp_path / "examples"
    shutil.copytree(camvid_examples, examples / "camvid")
    (examples / "refine").mkdir()
    for name in ("aeroplane.jpg", "aeroplane.png"):
        Image.open(camvid_examples.parent / "refine" / name).resize((524, 349)).save(examples / "refine" / name)
    monkeypatch.setattr(demo, "_EXAMPLES", examples)
    monkeypatch.setattr(demo, "REFINER_WEIGHTS", str(refiner_weights))
    assert main(["demo", "--output", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    for word in ("Road", "524 x 349", "contact_sheet.png"):
        assert word in printed
    assert len(list((tmp_path / "demo").glob("*_overlay.jpg"))) == 5
    modes = {path.stem: Image.open(path).mode for path in (tmp_path / "demo").glob("*.png")}
    assert sorted(modes.values()) == ["L", "P", "P", "P", "P", "P", "RGB", "RGBA"]
    assert modes["aeroplane_refined"] == "L"
    assert modes["aeroplane_alpha"] == "RGBA"
    width, height = Image.open(tmp_path / "demo" / "contact_sheet.png").size
    assert width > 1400
    assert height > 5 * 360 + 320


def test_help_and_unknown_command() -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "segscape.cli.main", *words], capture_output=True, text=True)

    shown = run("--help")
    assert shown.returncode == 0
    for command in ("segment", "refine", "demo", "models", "convert", "data", "fit", "validate", "test"):
        assert command in shown.stdout
    assert run("--version").stdout.strip() == f"segscape {segscape.__version__}"
    unknown = run("segmnt")
    assert unknown.returncode == 2
    assert "segment" in unknown.stderr
    assert "--output" in run("segment", "--help").stdout


def _write_to_a_full_disk(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_with_the_file_that_did_not_fit(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"map.png cannot be written: the disk is full; \d+ MB are free in"):
        _write_to_a_full_disk(tmp_path / "map.png")
    assert not list(tmp_path.iterdir())
