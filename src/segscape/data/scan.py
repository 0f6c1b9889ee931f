"""Files of a folder by the names of their samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def files_by_name(folder: Path, *endings: str) -> dict[str, Path]:
    """Find the files of a folder whose names have one of several endings, indexed by the rest of their names.

    Hidden files, such as those that an interrupted write may leave, are skipped.

    Args:
        folder: The folder; one that is missing has no files.
        endings: For instance `.jpg` or `_mask.png`; letters of either case match.

    Raises:
        ValueError: Two files have one name before their endings; the message names them.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        ending = next((ending for ending in endings if path.name.lower().endswith(ending.lower())), None)
        if ending is None or path.name.startswith("."):
            continue
        name = path.name[: -len(ending)]
        if name in found:
            raise ValueError(f"{found[name]} and {path} are two files for one sample; remove one of them.")
        found[name] = path
    return found


def only_listed(
    names: Sequence[str], source: Path, images: Mapping[str, Path], masks: Mapping[str, Path]
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Select the images and label files of the names in a list.

    Args:
        names: The list.
        source: The file that holds it, for messages.
        images: Image files by name.
        masks: Label files by name.

    Raises:
        FileNotFoundError: A name has neither an image nor a label file; the message names it.
    """
    lost = [name for name in names if name not in images and name not in masks]
    if lost:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise FileNotFoundError(f"{source} lists {lost[0]}{more}, of which there is neither an image nor a label file.")
    return (
        {name: images[name] for name in names if name in images},
        {name: masks[name] for name in names if name in masks},
    )
