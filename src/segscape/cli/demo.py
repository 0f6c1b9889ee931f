"""`segscape demo`: the shipped street frames, segmented, with one sheet to look at."""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table

from segscape.cli.progress import progress
from segscape.cli.segment import DEFAULT_WEIGHTS, Summary, plan, run_jobs, timing_table
from segscape.inference.segmenter import Segmentation, Segmenter
from segscape.rasters.image import write_image
from segscape.viz.contact_sheet import contact_sheet
from segscape.viz.overlay import colourise


def main(words: list[str]) -> int:
    """Run `segscape demo`."""
    parser = argparse.ArgumentParser(
        prog="segscape demo", description="Segment the street frames that ship with Segscape."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), help="the folder to write to (default: %(default)s)"
    )
    arguments = parser.parse_args(words[1:])
    console = Console(soft_wrap=True, highlight=False)

    frames = Path(str(files("segscape"))) / "examples" / "camvid" / "images" / "val"
    jobs = plan([str(frames / "*.jpg")], arguments.output, with_overlay=True)
    segmenter = Segmenter.from_weights(DEFAULT_WEIGHTS)
    results, summaries = [], []
    with progress() as bar:
        for job, result, seconds in bar.track(run_jobs(segmenter, jobs), total=len(jobs), description="segmenting"):
            if not isinstance(result, Segmentation):
                raise result
            results.append(result)
            summaries.append(Summary.of(job, result, seconds))

    sheet = arguments.output / "contact_sheet.png"
    pictures = [(result.image, colourise(result.labels, result.palette), result.overlay()) for result in results]
    write_image(
        sheet,
        contact_sheet(
            pictures,
            titles=("frame", "labels", "overlay"),
            class_names=segmenter.card.class_names,
            palette=segmenter.card.palette,
        ),
    )
    console.print(timing_table(summaries))
    console.print(_share_table(summaries))
    console.print(f"{len(results)} frames segmented by {DEFAULT_WEIGHTS} on {segmenter.device}.")
    console.print(f"Look at {sheet}; label PNGs and overlays lie beside it.")
    return 0


def _share_table(summaries: list[Summary]) -> Table:
    """The share of each class over all frames, largest first."""
    shares = {name: mean(summary.shares[name] for summary in summaries) for name in summaries[0].shares}
    table = Table("class", "share of the pixels")
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{share:.1%}")
    return table
