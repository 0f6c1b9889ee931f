"""Curves of a training run."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure

from segscape.files import atomic_path


def read_metrics(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the logged values below `folder` by name, as (step, value), with the resumed parts of a run joined.

    Args:
        folder: Searched for `metrics.csv` files; where two logged the same step, the later file counts.
    """
    values: dict[str, dict[int, float]] = {}
    for path in sorted(folder.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                step = int(float(row["step"]))
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        values.setdefault(name, {})[step] = float(value)
    return {name: sorted(points.items()) for name, points in values.items()}


def plot_run(folder: Path, path: Path, *, score: str, label: str) -> None:
    """Draw the total loss and a validation score of a run over its steps.

    Args:
        folder: The run's logs; see `read_metrics`.
        path: The PNG to write.
        score: The score's logged name, such as `val/miou`.
        label: The name of the score on the axis.
    """
    metrics = read_metrics(folder)
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name, title in zip(
        figure.subplots(1, 2), ("loss/total", score), ("training loss", f"validation {label}"), strict=True
    ):
        points = metrics.get(name, [])
        axes.plot([step for step, _ in points], [value for _, value in points], marker="." if len(points) < 60 else "")
        axes.set(xlabel="step", ylabel=title, ylim=(0, None))
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
