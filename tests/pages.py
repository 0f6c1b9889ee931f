"""The documentation's commands and programs: found on its pages, and run as a reader runs them.

`python -m tests.pages` renews what the pages of `RUN` show as printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RUN = ("index.md", *(f"guides/{name}.md" for name in ("street", "aerial", "research", "refine", "deploy")))
"""The pages of docs/ whose commands and programs are run."""

SHELLS = ("bash", "sh", "shell", "console")
COLUMNS = 110
"""Tables are as wide on the pages."""

NOT_RUN = {
    r"--engine ray": "starts Ray, which takes half a minute; tests/test_cluster.py runs it",
    r"--trainer\.devices": "needs several GPUs",
    r"--config isdnet_resnet18/deepglobe": "needs DeepGlobe, whose images are 2448 pixels high",
    r"--config crm_": "needs the pairs of image and mask of CRM; tests/test_refinement_training.py trains it",
    r"--config (bisestdc|isnet_resnet50|stdc1_seg)/cityscapes": "needs Cityscapes, and gigabytes of memory; "
    "tests/test_recipes.py runs every recipe on a tiny copy",
    r"^segscape demo$": "refines 8 million pixels, which takes half a minute; tests/test_cli.py runs it",
    r"--runtime auto": "tries every runtime that is installed, which takes a minute; tests/test_runtimes.py runs it",
    r"model_45705|crm\.safetensors": "needs the checkpoint of CRM; tests/test_convert.py converts one",
    r"data prepare": "needs the download; tests/test_prepare.py prepares tiny ones",
    r"^segscape benchmark(?!.*--dry-run)": "takes minutes; tests/test_benchmark.py runs it",
}
"""Commands of the pages of `RUN` that a test cannot run, by what stands in them, and why."""

_TRAINING = ("fit", "validate", "test", "predict")
# A batch or two of tiny images, in this process.
_SMALL = (
    *("--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
    *("--data.batch_size", "2", "--data.num_workers", "0"),
)
_EXAMPLES = Path(str(files("segscape"))) / "examples"
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.S | re.M)


@dataclass(frozen=True)
class Block:
    """What stands between two fences.

    Attributes:
        language: The word after the first fence.
        text: What stands between them.
        line: The line of the first fence, from 1.
        span: The begin and the end of `text` on the page.
    """

    language: str
    text: str
    line: int
    span: tuple[int, int]


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    for match in _FENCE.finditer(page):
        indent = match["indent"]
        text = "".join(line.removeprefix(indent) for line in match["text"].splitlines(keepends=True))
        yield Block(match["language"], text, page[: match.start()].count("\n") + 1, match.span("text"))


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the words after `segscape` of each such command in a block of a shell's language.

    Continued lines are joined, comments and what a command's output goes to are left out; a command that reads another
    one's output counts, and one that a launcher such as `srun` starts.
    """
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|>&;")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        word_lists: list[list[str]] = [[]]
        for word in lexer:
            if set(word) <= set("|&;"):
                word_lists.append([])
            elif word == ">":
                word_lists.append([">"])
            else:
                word_lists[-1].append(word)
        for words in word_lists:
            launched = words and words[0] in ("segscape", "srun", "torchrun", "nice", "time")
            if launched and "segscape" in words:
                yield words[words.index("segscape") + 1 :]


def why_not_run(words: list[str]) -> str | None:
    """Return why a command of the pages of `RUN` is not run, or None if it is."""
    line = shlex.join(["segscape", *words])
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, line)), None)


def write_inputs(folder: Path, page: str) -> None:
    """Fill a folder with small inputs of the names that a page uses."""
    import av

    import segscape
    from segscape.checkpoints.convert import to_official
    from tests.fake.data_sets import WRITERS

    frames = sorted((_EXAMPLES / "camvid" / "images" / "val").iterdir())
    for name in ("frames", "photos", "masks", "scenes", "night"):
        (folder / name).mkdir()
    for frame in frames[:2]:
        (folder / "frames" / frame.name).write_bytes(frame.read_bytes())
    Image.open(frames[4]).save(folder / "night" / "0016E5_08159.png")
    with Image.open(_EXAMPLES / "refine" / "aeroplane.jpg") as image:
        aeroplane = image.resize((388, 258))
    with Image.open(_EXAMPLES / "refine" / "aeroplane.png") as image:
        mask = image.convert("L").resize((388, 258))
    for number in (1, 2):
        aeroplane.crop((0, 0, 380 + number, 250)).save(folder / "photos" / f"plane-{number}.jpg", quality=95)
        mask.crop((0, 0, 380 + number, 250)).save(folder / "masks" / f"plane-{number}.png")
    if page == "guides/refine.md":
        aeroplane.save(folder / "photo.jpg", quality=95)
        mask.save(folder / "mask.png")
    else:
        (folder / "photo.jpg").write_bytes(frames[0].read_bytes())
    Image.new("RGB", (320, 200), (90, 160, 220)).save(folder / "beach.jpg")
    with av.open(str(folder / "drive.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 240, 180, "yuv420p"
        for frame in frames[:3]:
            film.mux(stream.encode(av.VideoFrame.from_image(Image.open(frame).resize((240, 180)))))
        film.mux(stream.encode())
    _write_scenes(folder)
    for name in ("camvid", "idd_lite"):
        WRITERS[name](folder / "data" / name)
    network = segscape.create_model("stdc1_seg", 19)
    import torch

    torch.save({"state_dict": to_official("stdc1_seg", network.state_dict())}, folder / "model_maxmIOU50.pth")


def _write_scenes(folder: Path) -> None:
    """Write scenes with a place, masks of fields beside pieces of them, and a map of classes."""
    import rasterio
    from rasterio.transform import from_origin

    with Image.open(ROOT / "tests" / "data" / "inria" / "kitsap11.png") as image:
        scene = np.tile(np.asarray(image.convert("RGB")), (2, 2, 1))
    with Image.open(ROOT / "tests" / "data" / "inria" / "kitsap11_gt.png") as image:
        buildings = np.tile(np.asarray(image.convert("L")) > 127, (2, 2))

    def write(path: Path, bands: np.ndarray, **settings: Any) -> None:
        profile = {"driver": "GTiff", "crs": "EPSG:32610", "transform": from_origin(5e5, 5.2e6, 0.3, 0.3), **settings}
        shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
        with rasterio.open(path, "w", **profile, **shape) as file:
            file.write(bands)

    write(folder / "scene.tif", scene.transpose(2, 0, 1))
    for name in ("north", "south"):
        write(folder / "scenes" / f"{name}.tif", scene[:256, :300].transpose(2, 0, 1))
    infrared = np.concatenate([scene, scene[..., :1]], axis=2).astype(np.uint16).transpose(2, 0, 1) * 10
    write(folder / "sentinel.tif", infrared)
    write(folder / "labels.tif", buildings[None].astype(np.uint8))
    for split, tops in (("train", (0, 40, 90)), ("val", (130,))):
        for top in tops:
            for kind, pixels in (("images", scene), ("masks", buildings.astype(np.uint8) + 1)):
                path = folder / "my_data" / kind / split / f"{top}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[top : top + 120, :160]).save(path)


@dataclass(frozen=True)
class Printed:
    """What a block printed on standard output, and where the page shows it.

    Attributes:
        line: The line of the block that printed it.
        text: What was printed.
        shown: The block that shows it, if the page has one.
    """

    line: int
    text: str
    shown: Block | None


def run_page(name: str, folder: Path) -> list[Printed]:
    """Run the commands and programs of a page in the current folder, which `write_inputs` has filled.

    A YAML block whose first line is a comment with a path is written to that file, as the page tells its reader.

    Raises:
        AssertionError: A command ended with another status than 0, or a program with an exception.
    """
    from segscape.cli.main import main

    found = list(blocks((DOCS / name).read_text()))
    printed = []
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(found):
        file = re.match(r"# ([\w/.-]+\.yaml)\b", block.text)
        if block.language == "yaml" and file:
            Path(folder, file[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, file[1]).write_text(block.text)
        if block.language not in (*SHELLS, "python"):
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            if block.language == "python":
                try:
                    exec(compile(block.text, f"{name}:{block.line}", "exec"), names)
                except Exception as error:
                    raise AssertionError(f"{name}, line {block.line}: {traceback.format_exc()}") from error
            else:
                for words in commands(block):
                    if why_not_run(words):
                        continue
                    small = _SMALL if words[0] in _TRAINING and "--dry-run" not in words else ()
                    status = _status(main, [*words, *small])
                    assert status == 0, f"{name}, line {block.line}: segscape {shlex.join(words)} ended with {status}"
        after = found[number + 1] if number + 1 < len(found) else None
        printed.append(Printed(block.line, output.getvalue(), after if after and after.language == "text" else None))
    return printed


def _status(main: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a command and return its status; one that prints a config exits."""
    try:
        return main(words)
    except SystemExit as end:
        return int(end.code or 0)


def form(text: str) -> list[str]:
    """Return what was printed, line by line, without what differs from run to run: numbers, and widths of tables."""
    lines = [re.sub(r"\d+(?:[.,]\d+)*", "0", line) for line in text.splitlines()]
    lines = [re.sub(r"([━─┄])\1*", r"\1", line) for line in lines]
    return [" ".join(line.split()) for line in lines if line.strip()]


def _renew(name: str) -> None:
    """Write what a page's commands print into the blocks that show it."""
    page = (DOCS / name).read_text()
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
        write_inputs(Path(temporary), name)
        os.environ["SEGSCAPE_CACHE"] = f"{temporary}/cache"
        printed = run_page(name, Path(temporary))
    for output in reversed([output for output in printed if output.shown]):
        assert output.shown is not None
        begin, end = output.shown.span
        text = "\n".join(line.rstrip() for line in output.text.splitlines()).strip("\n")
        page = f"{page[:begin]}{text}\n{page[end:]}"
    (DOCS / name).write_text(page)


if __name__ == "__main__":
    os.environ["COLUMNS"] = str(COLUMNS)
    for page_name in sys.argv[1:] or RUN:
        _renew(page_name)
