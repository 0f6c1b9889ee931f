"""Scores for people, as a table, and for programs, as JSON."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

from segscape.labels import ClassMapping
from segscape.training.refinement import COARSE, PROTOCOL, RefinementTask
from segscape.training.segmentation import Measurement, SegmentationTask


def scores_tables(task: SegmentationTask) -> list[Table]:
    """Return the latest scores of a task, a table per data set with a column per protocol and a row per class."""
    return [_scores_table(task, each) for each in task.maps]


def _scores_table(task: SegmentationTask, classes: ClassMapping) -> Table:
    names, excluded = classes.own.class_names, classes.own.excluded
    measured = [found for found in task.results if found.classes is classes]
    results = [found.scores for found in measured]
    title = classes.own.name if len(task.maps) > 1 else None
    table = Table("class", *(f"IoU, {found.protocol}" for found in measured), title=title)
    for index, name in enumerate(names):
        shown = f"{name} (not in mIoU)" if index in excluded else name
        table.add_row(shown, *(_percent(result.iou[index]) for result in results))
    table.add_section()
    table.add_row("mIoU", *(_percent(result.miou) for result in results))
    if excluded:
        table.add_row("mIoU of all classes", *(_percent(result.miou_all) for result in results))
    if task.small_classes and classes.is_same:
        listed = ", ".join(names[index] for index in task.small_classes)
        table.add_row(f"mIoU of {listed}", *(_percent(result.mean_iou(task.small_classes)) for result in results))
    table.add_row("pixel accuracy", *(_percent(result.pixel_accuracy) for result in results))
    table.add_row("class accuracy", *(_percent(result.class_accuracy) for result in results))
    return table


def scores_report(task: SegmentationTask, measured_on: str) -> dict[str, Any]:
    """Return the latest scores of a task by the protocol's name, each from 0 to 1, or `None` where nothing was counted.

    With several data sets, the names are `<data set>, <protocol>`.

    Args:
        task: After an evaluation.
        measured_on: The data sets and splits, for the statement of the protocol.
    """
    several = len(task.maps) > 1
    return {
        f"{found.classes.own.name}, {found.protocol}" if several else found.protocol: {
            "protocol": f"{measured_on}, {task.protocols[found.protocol]}",
            **_one_report(task, found),
        }
        for found in task.results
    }


def _one_report(task: SegmentationTask, found: Measurement) -> dict[str, Any]:
    names, result = found.classes.own.class_names, found.scores
    report: dict[str, Any] = {
        "miou": _number(result.miou),
        "pixel_accuracy": _number(result.pixel_accuracy),
        "class_accuracy": _number(result.class_accuracy),
    }
    if found.classes.own.excluded:
        excluded = [names[index] for index in found.classes.own.excluded]
        report |= {"miou_all": _number(result.miou_all), "excluded": excluded}
    if task.small_classes and found.classes.is_same:
        small = [names[index] for index in task.small_classes]
        report |= {"miou_small": _number(result.mean_iou(task.small_classes)), "small_classes": small}
    return report | {"iou": {name: _number(value) for name, value in zip(names, result.iou, strict=True)}}


def refinement_table(task: RefinementTask) -> Table:
    """Return the table of the latest scores of a task: a row for each stage, refined beside coarse."""
    coarse = task.results[COARSE]
    table = Table("stage", "IoU, coarse", "IoU, refined", "gain", "mBA, coarse", "mBA, refined", "gain")
    for name, result in task.results.items():
        if name != COARSE:
            cells = [*_beside(coarse.iou, result.iou), *_beside(coarse.mba, result.mba)]
            table.add_row(name, *cells)
    return table


def _beside(before: float, after: float) -> tuple[str, str, str]:
    gain = after - before
    return _percent(before), _percent(after), "" if math.isnan(gain) else f"{gain:+.2%}"


def refinement_report(task: RefinementTask, measured_on: str) -> dict[str, Any]:
    """Return the latest scores of the coarse masks and of each stage, from 0 to 1, or `None` where nothing was counted.

    Args:
        task: After an evaluation.
        measured_on: The data, for the statement of the protocol.
    """
    report: dict[str, Any] = {"protocol": f"{measured_on}: {PROTOCOL}"}
    for name, result in task.results.items():
        report[name] = {"iou": _number(result.iou), "mba": _number(result.mba)}
    coarse = task.results[COARSE]
    counts = {"images": coarse.images, "without_boundary": coarse.without_boundary}
    return report | counts | {"small_objects": task.small_objects}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float) -> str:
    return "absent" if math.isnan(value) else f"{value:.2%}"
