"""Scores for people, as a table, and for programs, as JSON."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Column, Table

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
    # Folded, for the names of protocols may differ only at their ends.
    columns = [
        Column(f"{score}, {found.protocol}", overflow="fold") for found in measured for score in ("IoU", "accuracy")
    ]
    table = Table("class", *columns, title=title)
    for index, name in enumerate(names):
        shown = f"{name} (not in mIoU)" if index in excluded else name
        values = [value for result in results for value in (result.iou[index], result.accuracy[index])]
        table.add_row(shown, *map(_percent, values))
    table.add_section()
    table.add_row("mean", *(_percent(value) for result in results for value in (result.miou, result.class_accuracy)))
    if excluded:
        table.add_row("mean of all classes", *_in_pairs([result.miou_all for result in results]))
    if task.small_classes and classes.is_same:
        listed = ", ".join(names[index] for index in task.small_classes)
        small = [result.mean_iou(task.small_classes) for result in results]
        table.add_row(f"mean of {listed}", *_in_pairs(small))
    table.add_row("pixels", *(cell for result in results for cell in ("", _percent(result.pixel_accuracy))))
    return table


def _in_pairs(ious: list[float]) -> list[str]:
    """Return a row's cells for scores that have no accuracy beside the IoU."""
    return [cell for iou in ious for cell in (_percent(iou), "")]


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
    by_class = {"iou": result.iou, "accuracy": result.accuracy}
    return report | {
        score: {name: _number(value) for name, value in zip(names, values, strict=True)}
        for score, values in by_class.items()
    }


def refinement_tables(task: RefinementTask) -> list[Table]:
    """Return the latest scores of a task: of each stage, refined beside coarse; after a test, of the soft masks too."""
    coarse = task.results[COARSE]
    table = Table("stage", "IoU, coarse", "IoU, refined", "gain", "mBA, coarse", "mBA, refined", "gain")
    for name, result in task.results.items():
        if name != COARSE:
            cells = [*_beside(coarse.iou, result.iou), *_beside(coarse.mba, result.mba)]
            table.add_row(name, *cells)
    if not task.object_results:
        return [table]
    further = Table("stage", "S-measure", "E-measure", "weighted F", "MAE", "boundary IoU", title="soft masks")
    for name, scored in task.object_results.items():
        further.add_row(name, *map(_percent, scored))
    return [table, further]


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
        further = task.object_results[name]._asdict() if task.object_results else {}
        scores = {"iou": result.iou, "mba": result.mba, **further}
        report[name] = {score: _number(value) for score, value in scores.items()}
    coarse = task.results[COARSE]
    counts = {"images": coarse.images, "without_boundary": coarse.without_boundary}
    return report | counts | {"small_objects": task.small_objects}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float) -> str:
    return "absent" if math.isnan(value) else f"{value:.2%}"
