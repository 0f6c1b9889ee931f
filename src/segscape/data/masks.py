"""Label files of every kind as class indices: grey and palette images, colour-coded images, MATLAB files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from segscape.labels import LabelSpec
from segscape.rasters.image import read_image, read_label_image, read_labels


def read_indices(path: Path, spec: LabelSpec) -> npt.NDArray[np.uint8]:
    """Read the class indices of a label image: from its colours if it and `spec` have some, else from its values.

    The values of a file whose palette has the colours of other classes are those of the colours; see
    `LabelSpec.to_indices`.

    Args:
        path: The image.
        spec: The meaning of its values and colours.

    Returns:
        (H, W) uint8, class indices and the ignore index.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or holds unknown values; the message names it.
    """
    if spec.colour_to_index and _is_coloured(path):
        colours = read_image(path)
        with _named(path):
            return spec.colours_to_indices(colours)
    values, palette = read_label_image(path)
    with _named(path):
        return spec.to_indices(values, palette)


def read_index_mask(path: Path, spec: LabelSpec) -> npt.NDArray[np.uint8]:
    """Read a label image whose values are class indices already; see `read_indices`."""
    values = read_labels(path)
    with _named(path):
        return spec.check_indices(values)


def read_corner_mask(path: Path, spec: LabelSpec) -> npt.NDArray[np.uint8]:
    """Read as `read_indices` does, for palettes with channels of 0 and 255: colours are thresholded at 128 first."""
    if not _is_coloured(path):
        return read_indices(path, spec)
    return spec.colours_to_indices(np.where(read_image(path) >= 128, np.uint8(255), np.uint8(0)))


def read_matlab_labels(path: Path) -> npt.NDArray[np.uint8]:
    """Read the matrix `S` of a COCO-Stuff 10k label file: (H, W) uint8, category ids.

    Raises:
        ModuleNotFoundError: SciPy is missing; the message names the extra that has it.
        ValueError: The file is damaged or has no such matrix; the message names it.
    """
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"Reading {path} needs SciPy: pip install 'segscape[train]'.", name="scipy") from None
    try:
        matrix = loadmat(path, variable_names=["S"]).get("S")
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    # SciPy raises errors of many kinds, depending on which byte is damaged.
    except Exception as error:
        raise ValueError(f"{path} cannot be decoded, it may be cut short or damaged: {error}.") from None
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind not in "uif" or not matrix.size:
        raise ValueError(f"{path} has no label matrix S; is it a label file of COCO-Stuff 10k?")
    ids = matrix.astype(np.uint8)
    if not np.array_equal(ids, matrix):
        raise ValueError(f"{path} has label values outside 0 to 255 in its matrix S; it is damaged.")
    return ids


def read_matlab_mask(path: Path, spec: LabelSpec) -> npt.NDArray[np.uint8]:
    """Read the class indices of a COCO-Stuff 10k label file; see `read_matlab_labels`."""
    ids = read_matlab_labels(path)
    with _named(path):
        return spec.to_indices(ids)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Prefix errors about a file's values with the file's name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} has {error}") from None


def _is_coloured(path: Path) -> bool:
    """Return whether a file is an image with several colour channels; its reader reports any other fault of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return len(image.getbands()) > 1 and image.mode not in ("LA", "PA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
