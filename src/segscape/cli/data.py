"""`segscape data check`: counts, sizes, classes and problems of a data set."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from segscape.cli.progress import progress
from segscape.data.check import SplitReport, check_split, detect_dataset
from segscape.data.datasets import DATASETS, Sample
from segscape.labels import IGNORE_INDEX, LabelSpec


def main(words: list[str]) -> int:
    """Run `segscape data check`; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="segscape data", description="Look after data sets.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="check")
    check = commands.add_parser("check", help="read every file and report counts, sizes, classes and problems")
    check.add_argument("root", type=Path, help="the data set's folder")
    check.add_argument("--dataset", choices=sorted(DATASETS), help="which data set it is (default: told by its layout)")
    arguments = parser.parse_args(words[1:])

    dataset = DATASETS[arguments.dataset or detect_dataset(arguments.root)]
    reports = []
    with progress() as bar:
        for split in dataset.splits:

            def track(samples: Iterable[Sample | str], total: int, split: str = split) -> Iterable[Sample | str]:
                return bar.track(samples, total=total, description=split)

            if any(dataset.find_files(arguments.root, split)):
                reports.append(check_split(dataset, arguments.root, split, track=track))
    console = Console(soft_wrap=True, highlight=False)
    if not reports:
        raise FileNotFoundError(
            f"No images of {dataset.label_spec.name} in {arguments.root}; expected {dataset.layout}."
        )
    console.print(f"{dataset.label_spec.name} in {arguments.root}")
    for report in reports:
        sizes = ", ".join(f"{count} of {width} x {height}" for (height, width), count in report.sizes.most_common(5))
        console.print(f"  {report.split}: {report.samples} samples ({sizes})")
    console.print(_histogram(reports, dataset.label_spec))
    problems = [(report.split, problem) for report in reports for problem in report.problems]
    for split, problem in problems:
        console.print(f"{split}: {problem}", markup=False)
    console.print(f"{len(problems)} problem(s)")
    return 1 if problems else 0


def _histogram(reports: list[SplitReport], spec: LabelSpec) -> Table:
    """Pixels of each class and split, with their share of the labelled pixels."""
    table = Table("index", "class", *(report.split for report in reports))
    for index, name in enumerate(spec.class_names):
        row = []
        for report in reports:
            labelled = report.pixels.sum() - report.pixels[IGNORE_INDEX]
            row.append(f"{report.pixels[index]} ({report.pixels[index] / max(labelled, 1):.2%})")
        table.add_row(str(index), name, *row)
    table.add_row(str(IGNORE_INDEX), "no label", *(str(report.pixels[IGNORE_INDEX]) for report in reports))
    return table
