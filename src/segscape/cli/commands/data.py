"""`segscape data`: the preparation of a data set's download, and the check of its files."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from segscape.arguments.data import PAIRS
from segscape.cli.output import Output
from segscape.cli.progress import progress
from segscape.cli.run import FAILED
from segscape.data.check import SplitReport, check_split, detect_dataset
from segscape.data.datasets import DATASETS, Folder, find_dataset
from segscape.data.prepare import PAIR_PREPARATIONS, PREPARATIONS, plan_of, prepare
from segscape.data.refinement.check import PairReport, check_pairs, holds_pairs
from segscape.data.refinement.sources import LAYOUT, SOURCES, SPLITS
from segscape.labels import IGNORE_INDEX, LabelSpec

_Item = TypeVar("_Item")


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape data prepare` or `segscape data check`; return 1 if something is wrong."""
    output = Output(arguments)
    if arguments.action == "prepare":
        return _prepare(arguments, output)
    name, root = arguments.dataset, arguments.root
    # Some data sets would take the images of pairs for their own test images.
    if name == PAIRS or (name is None and not Folder.recognises(root) and holds_pairs(root)):
        return _check_pairs(root, output)
    return _check(name or detect_dataset(root), root, output)


def _prepare(arguments: argparse.Namespace, output: Output) -> int:
    name, root = arguments.name, arguments.root
    if name not in PREPARATIONS | PAIR_PREPARATIONS:
        output.console.print(f"{name} is read as it is, nothing has to be prepared: {DATASETS[name].layout}")
        return 0
    if arguments.dry_run:
        plan = plan_of(name, arguments.source)
        files = Counter(f"{task.split} {task.kind}" for task in plan.tasks)
        for what, count in files.items():
            output.console.print(f"{what}: {count}")
        output.console.print(f"{len(plan.tasks)} file(s) would be written to {root}; {len(plan.problems)} problem(s)")
        output.record("plan", dataset=name, root=root, counts=files, problems=plan.problems)
        return 0
    with progress(quiet=output.quiet) as bar:

        def track(items: Iterable[_Item], total: int) -> Iterable[_Item]:
            return bar.track(items, total=total, description=name)

        report = prepare(name, arguments.source, root, workers=arguments.workers, track=track)
    for remark in report.remarks:
        output.console.print(remark)
    for problem in report.problems:
        output.console.print(problem)
    counts = ", ".join(
        f"{split} {' and '.join(f'{count} {kind}' for kind, count in kinds.items())}"
        for split, kinds in report.counts.items()
    )
    done = f"{report.written} files written" if report.written else "nothing to do"
    output.console.print(f"{name} in {root}: {done}; {counts}; {len(report.problems)} problem(s)")
    output.record(
        "preparation", dataset=name, root=root, written=report.written, counts=report.counts, problems=report.problems
    )
    return FAILED if report.problems else 0


def _check(name: str, root: Path, output: Output) -> int:
    dataset = find_dataset(name)
    spec = dataset.spec(root)
    reports = []
    with progress(quiet=output.quiet) as bar:
        for split in dataset.find_splits(root):

            def track(items: Iterable[_Item], total: int, split: str = split) -> Iterable[_Item]:
                return bar.track(items, total=total, description=split)

            if any(dataset.find_files(root, split)):
                reports.append(check_split(dataset, root, split, track=track))
    if not reports:
        raise FileNotFoundError(f"No images of {spec.name} in {root}; expected {dataset.layout}.")
    output.console.print(f"{spec.name} in {root}")
    for report in reports:
        samples = "samples" if report.labelled else "images without labels"
        output.console.print(f"  {report.split}: {report.samples} {samples} ({_common(report.sizes)})")
    labelled = [report for report in reports if report.labelled]
    if labelled:
        output.console.print(_histogram(labelled, spec))
    for report in reports:
        for remark in report.remarks:
            output.console.print(f"{report.split}: {remark}")
        pixels = dict(zip(spec.class_names, report.pixels, strict=False))
        output.record(
            "split",
            dataset=name,
            root=root,
            split=report.split,
            samples=report.samples,
            pixels=pixels,
            ignored=report.pixels[IGNORE_INDEX],
            remarks=report.remarks,
            problems=report.problems,
        )
    return _list_problems(reports, output)


def _check_pairs(root: Path, output: Output) -> int:
    reports = []
    with progress(quiet=output.quiet) as bar:
        for source, split in product(SOURCES, SPLITS):

            def track(items: Iterable[_Item], total: int, name: str = f"{source} {split}") -> Iterable[_Item]:
                return bar.track(items, total=total, description=name)

            report = check_pairs(root, source, split, track=track)
            if report:
                reports.append(report)
    if not reports:
        raise FileNotFoundError(f"No pairs of image and mask in {root}; expected {LAYOUT}.")
    output.console.print(f"Pairs of image and mask in {root}")
    for report in reports:
        pixels = max(report.pixels, 1)
        output.console.print(
            f"  {report.source} {report.split}: {report.pairs} pairs ({_common(report.sizes)}), foreground "
            f"{report.foreground / pixels:.2%}; {report.fringed} masks with grey levels ({report.fringe / pixels:.2%})",
        )
        output.record(
            "pairs",
            root=root,
            source=report.source,
            split=report.split,
            pairs=report.pairs,
            foreground=report.foreground / pixels,
            problems=report.problems,
        )
    return _list_problems(reports, output)


def _common(sizes: Counter[tuple[int, int]]) -> str:
    return ", ".join(f"{count} of {width} x {height}" for (height, width), count in sizes.most_common(5))


def _list_problems(reports: Sequence[SplitReport | PairReport], output: Output) -> int:
    problems = [(report.split, problem) for report in reports for problem in report.problems]
    for split, problem in problems:
        output.console.print(f"{split}: {problem}")
    output.console.print(f"{len(problems)} problem(s)")
    return FAILED if problems else 0


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
