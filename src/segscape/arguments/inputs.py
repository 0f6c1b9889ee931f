"""The files that commands are given: by name, in folders, by globs, and in lists on standard input."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from segscape.files import check_readable, resolved
from segscape.rasters.suffixes import IMAGE_SUFFIXES

FROM_INPUT = "-"
"""The argument that stands for a list of files on standard input."""


def names_many(text: str) -> bool:
    """Return whether an argument is a folder or a glob, and not a file."""
    path = Path(text)
    return path.is_dir() or (not path.exists() and glob.has_magic(text))


def expanded(arguments: Sequence[str]) -> list[str]:
    """Replace `-` by the lines of standard input, or by its parts between NUL characters if it has any.

    Raises:
        ValueError: Standard input names no file.
    """
    found: list[str] = []
    for text in arguments:
        if text != FROM_INPUT:
            found.append(text)
            continue
        listed = sys.stdin.read()
        # As `find -print0` writes names, which may hold line breaks.
        names = [name for name in (listed.split("\0") if "\0" in listed else listed.splitlines()) if name]
        if not names:
            raise ValueError("Standard input names no file; `-` reads a list of files from it, one in a line.")
        found += names
    return found


def find_all(arguments: Sequence[str], output: Path | None) -> dict[Path, Path]:
    """Find the images that arguments name, each once, with its place below the output folder.

    Args:
        arguments: Files, folders, globs, or `-` for a list of them on standard input.
        output: See `find_images`.

    Raises:
        FileNotFoundError: See `find_images`.
        ValueError: Standard input names no file.
    """
    found: dict[Path, Path] = {}
    for text in expanded(arguments):
        for image, place in find_images(text, output):
            found.setdefault(image, place)
    return found


def find_images(text: str, output: Path | None) -> Iterator[tuple[Path, Path]]:
    """Find the images that an argument names, each with its place below the output folder.

    A folder is searched with its subfolders; hidden files and those in the output folder are left out.

    Args:
        text: A file, a folder or a glob.
        output: The folder that will be written to, if it is known.

    Raises:
        FileNotFoundError: A folder or glob holds no image, or the argument is a pipe or a device. A file that does not
            exist fails later, alone.
    """
    path = Path(text)
    if not names_many(text):
        if path.exists():
            check_readable(path)
        yield path, Path(path.name)
    elif path.is_dir():
        files = (
            file
            for file in path.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and file.is_file()
        )
        images = sorted(file for file in files if output is None or not resolved(file).is_relative_to(resolved(output)))
        if not images:
            raise FileNotFoundError(
                f"There are no images in {path}; known suffixes are {' '.join(sorted(IMAGE_SUFFIXES))}."
            )
        yield from ((image, image.relative_to(path)) for image in images)
    else:
        images = sorted(Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file())
        if not images:
            raise FileNotFoundError(f"Nothing matches {text}.")
        yield from ((image, Path(image.name)) for image in images)
