"""`segscape demo`: the shipped street frames segmented, a shipped mask refined, with one sheet to look at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from segscape.cli.commands import refine, segment
from segscape.cli.console import PlainConsole
from segscape.cli.jobs import photographs
from segscape.cli.jobs.files import run_jobs
from segscape.cli.jobs.pairs import plan
from segscape.cli.progress import progress
from segscape.rasters.image import write_image
from segscape.rasters.masks import ObjectMask
from segscape.refinement.refiner import DEFAULT_WEIGHTS as DEFAULT_REFINER
from segscape.segmentation.segmenter import Segmentation, Segmenter
from segscape.viz.contact_sheet import contact_sheet
from segscape.viz.overlay import colourise
from segscape.viz.refinement import before_and_after

_EXAMPLES = Path(str(files("segscape"))) / "examples"


def main(words: list[str]) -> int:
    """Run `segscape demo`."""
    parser = argparse.ArgumentParser(
        prog="segscape demo", description="Segment the street frames that ship with Segscape, and refine a mask."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), help="the folder to write to (default: %(default)s)"
    )
    output = parser.parse_args(words[1:]).output
    console = PlainConsole()
    street = _segment_street(output, console)
    aeroplane = _refine_aeroplane(output, console)
    sheet = output / "contact_sheet.png"
    write_image(sheet, np.concatenate([street, aeroplane]))
    console.print(f"Look at {sheet}; label PNGs, overlays, the refined mask and the cut-out lie beside it.")
    return 0


def _segment_street(output: Path, console: Console) -> npt.NDArray[np.uint8]:
    """Segment the street frames, print timings and shares, and return their part of the sheet."""
    jobs = [
        photographs.PhotoJob(frame, output / f"{frame.stem}.png", output / f"{frame.stem}_overlay.jpg")
        for frame in sorted((_EXAMPLES / "camvid" / "images" / "val").glob("*.jpg"))
    ]
    segmenter = Segmenter.from_weights(segment.DEFAULT_WEIGHTS)
    results, timings = [], []
    with progress() as bar:
        for job, result in photographs.segment_photos(segmenter, jobs, bar):
            if not isinstance(result, Segmentation):
                raise result
            results.append(result)
            timings.append(photographs.photo_timing(job, result))
    console.print(photographs.photo_timing_table(timings))
    console.print(_share_table(results))
    console.print(f"{len(results)} frames segmented by {segment.DEFAULT_WEIGHTS} on {segmenter.device}.")
    return contact_sheet(
        [(result.image, colourise(result.labels, result.palette), result.overlay()) for result in results],
        titles=("frame", "labels", "overlay"),
        class_names=segmenter.card.class_names,
        palette=segmenter.card.palette,
    )


def _refine_aeroplane(output: Path, console: Console) -> npt.NDArray[np.uint8]:
    """Refine the aeroplane's mask, print its timing, and return its part of the sheet."""
    image, mask = (str(_EXAMPLES / "refine" / f"aeroplane{suffix}") for suffix in (".jpg", ".png"))
    jobs, _ = plan(image, mask, output / "aeroplane_refined.png", with_cut_out=True)
    refiner = refine.load_refiner(DEFAULT_REFINER)
    work = partial(refine.refine, refiner, steps=4, band=None, binary=False)
    read = partial(refine.read, as_classes=False, one_object=True)
    with progress() as bar:
        [(job, result, seconds)] = run_jobs(
            jobs, read=read, work=work, write=refine.write, bar=bar, description="refining"
        )
    if isinstance(result, Exception):
        raise result
    console.print(refine.refine_timing_table([refine.refine_timing(job, result, seconds)]))
    material = result.material
    assert isinstance(material.mask, ObjectMask)
    console.print(f"1 mask refined by {DEFAULT_REFINER} on {refiner.device}.")
    return contact_sheet(
        before_and_after(material.image, material.mask.values > 0.5, result.values),
        titles=("coarse mask", "refined mask", "cut out"),
    )


def _share_table(results: Sequence[Segmentation]) -> Table:
    """Return the table of the share of each class over all frames, largest first."""
    by_frame = [result.shares() for result in results]
    shares = {name: mean(shares[name] for shares in by_frame) for name in by_frame[0]}
    table = Table("class", "share of the pixels")
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{share:.1%}")
    return table
