"""The plan of a preparation: the files to write, before any is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from segscape.files import atomic_path


@dataclass(frozen=True)
class FileTask:
    """One file to write.

    Attributes:
        split: The split it belongs to.
        kind: `images` or `labels`.
        source: The file that it is derived from.
        target: Its path, relative to the root.
        write: Writes the target (second argument) from the source (first); a function of a module, so that other
            processes can import it.
    """

    split: str
    kind: str
    source: Path
    target: str
    write: Callable[[Path, Path], None]


@dataclass
class Plan:
    """The files to write, and the gaps of the source.

    Attributes:
        tasks: A task for each file.
        remarks: A sentence for each split of which the source holds only a part.
        problems: A sentence for each file without its partner.
    """

    tasks: list[FileTask] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(
        self,
        split: str,
        names: Iterable[str],
        images: Mapping[str, Path],
        labels: Mapping[str, Path],
        *,
        image_target: str,
        label_target: str,
        write_label: Callable[[Path, Path], None],
    ) -> None:
        """Add the samples of a split.

        Args:
            split: Its name.
            names: The names of its samples.
            images: The image files by sample name.
            labels: The label files by sample name.
            image_target: Where an image belongs, relative to the root, with `{name}` in it.
            label_target: The same for labels.
            write_label: Writes a prepared label file (second argument) from a downloaded one (first).
        """
        absent = total = 0
        for name in names:
            image, label = images.get(name), labels.get(name)
            total += 1
            if image is None and label is None:
                absent += 1
            elif label is None:
                self.problems.append(f"{image} has no label file")
            elif image is None:
                self.problems.append(f"{label} has no image")
            else:
                self.tasks.append(FileTask(split, "images", image, image_target.format(name=name), link))
                self.tasks.append(FileTask(split, "labels", label, label_target.format(name=name), write_label))
        if absent:
            self.remarks.append(f"The source lacks {absent} of the {total} samples in split {split}.")


def read_split(dataset: str, split: str) -> list[str]:
    """Read the published list of a split's sample names."""
    return (files("segscape.data.prepare") / "splits" / f"{dataset}_{split}.txt").read_text().split()


def link(source: Path, target: Path) -> None:
    """Create `target` as a hard link to `source`, or as a copy where the two lie on different disks."""
    if target.exists() and target.samefile(source):
        return
    with atomic_path(target) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source.resolve(), temporary)
        except OSError:
            shutil.copyfile(source, temporary)
