"""The layouts of downloads of image and mask pairs, zipped or unpacked, and the folders prepared from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile, is_zipfile

from segscape.data.prepare.plan import FileTask, Plan, link
from segscape.files import atomic_path

_FSS = "fewshot_data"


class _Part(NamedTuple):
    """One prepared folder, and the names of the downloaded folders that it joins."""

    target: str
    images: str
    masks: str


def _plan_flat(source: Path, *, parts: tuple[_Part, ...]) -> Plan:
    """Plan sets whose images lie in folders of one name and their masks in folders of another."""
    plan = Plan()
    paths = files_within(source)
    for part in parts:
        images = _with_suffix((path for path in paths if path.parent.stem == part.images), ".jpg")
        masks = _with_suffix((path for path in paths if path.parent.stem == part.masks), ".png")
        plan.problems += _unmatched(images, masks)
        _add_pairs(plan, part.target, part.target, images, masks)
    return plan


def plan_fss_1000(source: Path) -> Plan:
    """Plan FSS-1000: ten images with masks in each class folder; an incomplete class is left out, as in training."""
    plan = Plan()
    classes: dict[str, list[Path]] = {}
    for path in files_within(source):
        if path.parent.parent.stem == _FSS or path.parent.parent == source:
            classes.setdefault(path.parent.name, []).append(path)
    for name, paths in sorted(classes.items()):
        images, masks = _with_suffix(paths, ".jpg"), _with_suffix(paths, ".png")
        if unmatched := _unmatched(images, masks):
            plan.remarks.append(f"The class {name} is left out: {unmatched[0]}.")
        else:
            _add_pairs(plan, "fss", f"fss/{name}", images, masks)
    return plan


def _with_suffix(paths: Iterable[Path], suffix: str) -> dict[str, Path]:
    """Index the files with a suffix by the rest of their names; of namesakes, as in an unpacked zip, keep the last."""
    return {path.stem: path for path in paths if path.suffix.lower() == suffix}


def _unmatched(images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[str]:
    """Return a sentence for each file without its partner."""
    unmatched = [f"{images[name]} has no mask" for name in sorted(images.keys() - masks.keys())]
    return unmatched + [f"{masks[name]} has no image" for name in sorted(masks.keys() - images.keys())]


def _add_pairs(plan: Plan, split: str, folder: str, images: Mapping[str, Path], masks: Mapping[str, Path]) -> None:
    for name in sorted(images.keys() & masks.keys()):
        for kind, path in (("images", images[name]), ("labels", masks[name])):
            write = link if path.is_file() else extract
            plan.tasks.append(FileTask(split, kind, path, f"{folder}/{path.name}", write))


def files_within(source: Path) -> list[Path]:
    """List every file of a folder or a zip archive, and of the archives in the folder, without hidden ones.

    The path of a file in an archive is that of the archive followed by its own; archived files come first.

    Raises:
        ValueError: An archive is damaged; the message names it.
    """
    if source.is_file():
        archives, files = ([source] if is_zipfile(source) else []), []
    else:
        found = sorted(path for path in source.rglob("*") if path.is_file())
        archives = [path for path in found if path.suffix == ".zip"]
        files = [path for path in found if path.suffix != ".zip"]
    members = [
        archive / name
        for archive in archives
        for name in _open_archive(archive).namelist()
        if not name.endswith("/") and ".." not in PurePosixPath(name).parts and not name.startswith(("/", "__MACOSX/"))
    ]
    return [path for path in members + files if not path.name.startswith(".")]


def extract(source: Path, target: Path) -> None:
    """Write a file of an archive; `source` is a path as `files_within` returns it.

    Raises:
        ValueError: The archive is damaged; the message names the file.
    """
    archive = next(path for path in source.parents if path.is_file())
    try:
        content = _open_archive(archive).read(source.relative_to(archive).as_posix())
    except (BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{source} cannot be unpacked: {error}.") from None
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


@lru_cache(maxsize=4)
def _open_archive(path: Path) -> ZipFile:
    """Open an archive and keep it open, so that each process reads its list of files only once."""
    try:
        return ZipFile(path)
    except BadZipFile:
        raise ValueError(f"{path} is not a zip archive, or cut short; download it again.") from None


PAIR_PREPARATIONS: dict[str, tuple[Callable[[Path], Plan], str]] = {
    "dut_omron": (
        partial(_plan_flat, parts=(_Part("DUT-OMRON", "DUT-OMRON-image", "pixelwiseGT-new-PNG"),)),
        "DUT-OMRON-image/*.jpg and pixelwiseGT-new-PNG/*.png, or DUT-OMRON-image.zip and pixelwiseGT-new-PNG.zip",
    ),
    "duts": (
        partial(
            _plan_flat,
            parts=tuple(_Part(name, f"{name}-Image", f"{name}-Mask") for name in ("DUTS-TR", "DUTS-TE")),
        ),
        "{DUTS-TR,DUTS-TE}-Image/*.jpg and -Mask/*.png, or DUTS-TR.zip and DUTS-TE.zip",
    ),
    "ecssd": (
        partial(_plan_flat, parts=(_Part("ecssd", "images", "ground_truth_mask"),)),
        "images/*.jpg and ground_truth_mask/*.png, or images.zip and ground_truth_mask.zip",
    ),
    "fss_1000": (plan_fss_1000, "fewshot_data/<class>/{1..10}.jpg and .png, or fewshot_data.zip"),
    "msra_10k": (
        partial(_plan_flat, parts=(_Part("MSRA_10K", "Imgs", "Imgs"),)),
        "Imgs/*.jpg and Imgs/*.png, or MSRA10K_Imgs_GT.zip",
    ),
}
"""For each source of pairs, the function that plans a download, and the files that the download must hold."""
