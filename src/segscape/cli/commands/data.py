"""`segscape data`: the preparation of a data set's download, and the check of its files."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from segscape.cli.console import PlainConsole
from segscape.cli.progress import progress
from segscape.data.check import SplitReport, check_split, detect_dataset
from segscape.data.datasets import DATASETS, Folder, find_dataset
from segscape.data.prepare import PAIR_PREPARATIONS, PREPARATIONS, prepare
from segscape.data.refinement.check import PairReport, check_pairs, holds_pairs
from segscape.data.refinement.pairs import LAYOUT, SOURCES, SPLITS
from segscape.labels import IGNORE_INDEX, LabelSpec

_Item = TypeVar("_Item")
_PAIRS = "pairs"
"""The name for `--dataset` of a folder of images with the mask of one object each."""


def main(words: list[str]) -> int:
    """Run `segscape data prepare` or `segscape data check`; return 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="segscape data", description="Look after data sets.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    preparing = commands.add_parser("prepare", help="bring a download into the layout and the labels that are read")
    names = sorted({*DATASETS, *PAIR_PREPARATIONS})
    preparing.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    preparing.add_argument("--source", type=Path, required=True, help="the unpacked download")
    preparing.add_argument("--root", type=Path, required=True, help="the folder to write")
    preparing.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: every core)")
    checking = commands.add_parser("check", help="read every file and report counts, sizes, classes and problems")
    checking.add_argument("root", type=Path, help="the data set's folder")
    checking.add_argument(
        "--dataset", choices=[*sorted(DATASETS), _PAIRS], help="which data set it is (default: told by its layout)"
    )
    arguments = parser.parse_args(words[1:])
    console = PlainConsole()
    if arguments.command == "check":
        name = arguments.dataset
        # Some data sets would take the images of pairs for their own test images.
        if name == _PAIRS or (name is None and not Folder.recognises(arguments.root) and holds_pairs(arguments.root)):
            return _check_pairs(arguments.root, console)
        return _check(name or detect_dataset(arguments.root), arguments.root, console)
    return _prepare(arguments, console)


def _prepare(arguments: argparse.Namespace, console: Console) -> int:
    name, root = arguments.name, arguments.root
    if name not in PREPARATIONS | PAIR_PREPARATIONS:
        console.print(f"{name} is read as it is, nothing has to be prepared: {DATASETS[name].layout}")
        return 0
    with progress() as bar:

        def track(items: Iterable[_Item], total: int) -> Iterable[_Item]:
            return bar.track(items, total=total, description=name)

        report = prepare(name, arguments.source, root, workers=arguments.workers, track=track)
    for remark in report.remarks:
        console.print(remark)
    for problem in report.problems:
        console.print(problem)
    counts = ", ".join(
        f"{split} {' and '.join(f'{count} {kind}' for kind, count in kinds.items())}"
        for split, kinds in report.counts.items()
    )
    done = f"{report.written} files written" if report.written else "nothing to do"
    console.print(f"{name} in {root}: {done}; {counts}; {len(report.problems)} problem(s)")
    return 1 if report.problems else 0


def _check(name: str, root: Path, console: Console) -> int:
    dataset = find_dataset(name)
    spec = dataset.spec(root)
    reports = []
    with progress() as bar:
        for split in dataset.find_splits(root):

            def track(items: Iterable[_Item], total: int, split: str = split) -> Iterable[_Item]:
                return bar.track(items, total=total, description=split)

            if any(dataset.find_files(root, split)):
                reports.append(check_split(dataset, root, split, track=track))
    if not reports:
        raise FileNotFoundError(f"No images of {spec.name} in {root}; expected {dataset.layout}.")
    console.print(f"{spec.name} in {root}")
    for report in reports:
        samples = "samples" if report.labelled else "images without labels"
        console.print(f"  {report.split}: {report.samples} {samples} ({_common(report.sizes)})")
    labelled = [report for report in reports if report.labelled]
    if labelled:
        console.print(_histogram(labelled, spec))
    for report in reports:
        for remark in report.remarks:
            console.print(f"{report.split}: {remark}")
    return _list_problems(reports, console)


def _check_pairs(root: Path, console: Console) -> int:
    reports = []
    with progress() as bar:
        for source, split in product(SOURCES, SPLITS):

            def track(items: Iterable[_Item], total: int, name: str = f"{source} {split}") -> Iterable[_Item]:
                return bar.track(items, total=total, description=name)

            report = check_pairs(root, source, split, track=track)
            if report:
                reports.append(report)
    if not reports:
        raise FileNotFoundError(f"No pairs of image and mask in {root}; expected {LAYOUT}.")
    console.print(f"Pairs of image and mask in {root}")
    for report in reports:
        pixels = max(report.pixels, 1)
        console.print(
            f"  {report.source} {report.split}: {report.pairs} pairs ({_common(report.sizes)}), foreground "
            f"{report.foreground / pixels:.2%}; {report.fringed} masks with grey levels ({report.fringe / pixels:.2%})",
        )
    return _list_problems(reports, console)


def _common(sizes: Counter[tuple[int, int]]) -> str:
    return ", ".join(f"{count} of {width} x {height}" for (height, width), count in sizes.most_common(5))


def _list_problems(reports: Sequence[SplitReport | PairReport], console: Console) -> int:
    problems = [(report.split, problem) for report in reports for problem in report.problems]
    for split, problem in problems:
        console.print(f"{split}: {problem}")
    console.print(f"{len(problems)} problem(s)")
    return 1 if problems else 0


def _histogram(reports: list[SplitReport], spec: LabelSpec) -> Table:
    """Return the table of the pixels of each class and split, with their share of the labelled pixels."""
    table = Table("index", "class", *(report.split for report in reports))
    for index, name in enumerate(spec.class_names):
        row = []
        for report in reports:
            labelled = report.pixels.sum() - report.pixels[IGNORE_INDEX]
            row.append(f"{report.pixels[index]} ({report.pixels[index] / max(labelled, 1):.2%})")
        table.add_row(str(index), name, *row)
    table.add_row(str(IGNORE_INDEX), "no label", *(str(report.pixels[IGNORE_INDEX]) for report in reports))
    return table
