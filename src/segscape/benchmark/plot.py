"""A plot of speed against accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from segscape.files import atomic_path


def plot_speed(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot images per second, from image file to label file, against the mIoU on each weights' card.

    Args:
        rows: See `segscape.benchmark.entry.as_row`; those without a score or with an error are left out.
        path: The PNG to write.

    Raises:
        ValueError: No row has a score.
        OSError: The folder cannot be written to.
    """
    shown = [row for row in rows if row.get("miou") is not None]
    if not shown:
        raise ValueError("There is nothing to plot: no row that was measured has weights whose card states an mIoU.")
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for way in sorted({(row["runtime"], row["precision"]) for row in shown}):
        own = [row for row in shown if (row["runtime"], row["precision"]) == way]
        places = [(1000 / row["timings"]["file"]["median_ms"], 100 * row["miou"]) for row in own]
        axes.plot(*zip(*places, strict=True), "o", label=" ".join(way))
        for row, place in zip(own, places, strict=True):
            label = "{}\n{}x{}".format(Path(row["name"]).name, *row["size"])
            axes.annotate(label, place, textcoords="offset points", xytext=(5, 4), fontsize=7)
    axes.set(xlabel="images a second, file to file", ylabel="mIoU of the weights' card, %")
    axes.margins(0.2)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
