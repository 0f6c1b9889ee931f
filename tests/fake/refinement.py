"""Pairs of image and mask, and triples, in the layouts of their downloads and as they are read."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image

from tests.fake.pixels import save_photo, save_pixels

SIZE = 40, 56


def disk(size: tuple[int, int], number: int = 0) -> np.ndarray:
    """(H, W) uint8, 0 and 255: a disk with a hole, at another place for each number."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    distance = np.hypot(rows - size[0] // 2 + number % 3, columns - size[1] // 2 - number % 5)
    return np.where((distance < min(size) // 3) & (distance > 3), 255, 0).astype(np.uint8)


def save_pair(image: Path, mask: Path, number: int = 0, size: tuple[int, int] = SIZE) -> None:
    """A piece of a real photograph and the mask of a disk; every second mask has three channels, as FSS-1000's."""
    save_photo(image, size, number)
    grey = disk(size, number)
    save_pixels(mask, np.repeat(grey[..., None], 3, axis=2) if number % 2 else grey)


def _save_pairs(images: Path, masks: Path, *names: str) -> None:
    for number, name in enumerate(names):
        save_pair(images / f"{name}.jpg", masks / f"{name}.png", number)


def write_msra_10k_download(source: Path) -> None:
    """The folder of `MSRA10K_Imgs_GT.zip`."""
    folder = source / "MSRA10K_Imgs_GT" / "Imgs"
    _save_pairs(folder, folder, "78", "109_4")
    (source / "MSRA10K_Imgs_GT" / "Readme.txt").write_text("Images and ground truth.")


def write_duts_download(source: Path) -> None:
    """The folders of `DUTS-TR.zip` and `DUTS-TE.zip`."""
    for part, names in (("TR", ("ILSVRC2012_test_00000004", "n01532829_13482")), ("TE", ("sun_aaa.b",))):
        folder = source / f"DUTS-{part}"
        _save_pairs(folder / f"DUTS-{part}-Image", folder / f"DUTS-{part}-Mask", *names)


def write_dut_omron_download(source: Path) -> None:
    """The folders of DUT-OMRON's images and of its pixelwise masks."""
    _save_pairs(source / "DUT-OMRON-image", source / "pixelwiseGT-new-PNG", "im005", "sun_x")


def write_ecssd_download(source: Path) -> None:
    """The folders of `images.zip` and `ground_truth_mask.zip`."""
    _save_pairs(source / "images", source / "ground_truth_mask", "0001", "0002", "0003")


def write_fss_1000_download(source: Path) -> None:
    """The folder of `fewshot_data.zip`."""
    for name in ("abacus", "zucchini"):
        folder = source / "fewshot_data" / "fewshot_data" / name
        _save_pairs(folder, folder, "1", "2")


DOWNLOADS = {
    "dut_omron": write_dut_omron_download,
    "duts": write_duts_download,
    "ecssd": write_ecssd_download,
    "fss_1000": write_fss_1000_download,
    "msra_10k": write_msra_10k_download,
}
NAMES = {
    "dut_omron": ["DUT-OMRON/im005", "DUT-OMRON/sun_x"],
    "duts": ["DUTS-TR/ILSVRC2012_test_00000004", "DUTS-TR/n01532829_13482", "DUTS-TE/sun_aaa.b"],
    "ecssd": ["ecssd/0001", "ecssd/0002", "ecssd/0003"],
    "fss_1000": ["fss/abacus/1", "fss/abacus/2", "fss/zucchini/1", "fss/zucchini/2"],
    "msra_10k": ["MSRA_10K/109_4", "MSRA_10K/78"],
}


def zip_folders(source: Path, target: Path) -> None:
    """Each folder of a download as a zip archive, with what some tools add to it."""
    target.mkdir(parents=True)
    for folder in source.iterdir():
        with ZipFile(target / f"{folder.name}.zip", "w") as archive:
            archive.mkdir(folder.name)
            for path in sorted(folder.rglob("*.*")):
                name = path.relative_to(source).as_posix()
                archive.write(path, name)
                archive.writestr(f"__MACOSX/{name}", "attributes")


def write_folder(root: Path, *, splits: tuple[str, ...] = ("train", "val")) -> None:
    """Two pairs a split in `images/` and `masks/`, or without splits."""
    for split in splits or (".",):
        for number in range(2):
            save_pair(root / "images" / split / f"a-{number}.jpg", root / "masks" / split / f"a-{number}.png", number)


def write_triples(root: Path) -> None:
    """Two objects as in BIG, the coarse mask of the second soft."""
    for number, name in enumerate(("2007_000033_01", "2009_cat")):
        save_pair(root / f"{name}_im.{('jpg', 'png')[number]}", root / f"{name}_gt.png", number)
        coarse = Image.fromarray(disk(SIZE, number + 1))
        if number:
            coarse = coarse.resize((14, 10)).resize(SIZE[::-1], Image.Resampling.BILINEAR)
        coarse.save(root / f"{name}_seg.png")
