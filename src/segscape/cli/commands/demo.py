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
from rich.table import Table

from segscape.choices import REFINER_WEIGHTS, STREET_WEIGHTS
from segscape.cli.commands import refine
from segscape.cli.jobs import photographs
from segscape.cli.jobs.files import run_jobs
from segscape.cli.jobs.pairs import plan
from segscape.cli.output import Output, record_image
from segscape.cli.progress import progress
from segscape.rasters.image import write_image
from segscape.rasters.masks import ObjectMask
from segscape.refinement.refiner import Refiner
from segscape.segmentation.segmenter import Segmentation, Segmenter
from segscape.viz.contact_sheet import contact_sheet
from segscape.viz.overlay import colourise
from segscape.viz.refinement import before_and_after

_EXAMPLES = Path(str(files("segscape"))) / "examples"


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape demo`."""
    output = Output(arguments)
    street = _segment_street(arguments.output, output)
    aeroplane = _refine_aeroplane(arguments.output, output)
    sheet = arguments.output / "contact_sheet.png"
    write_image(sheet, np.concatenate([street, aeroplane]))
    output.record("summary", sheet=sheet)
    output.console.print(f"Look at {sheet}; label PNGs, overlays, the refined mask and the cut-out lie beside it.")
    return 0


def _segment_street(folder: Path, output: Output) -> npt.NDArray[np.uint8]:
    """Segment the street frames, print timings and shares, and return their part of the sheet."""
    jobs = [
        photographs.PhotoJob(frame, folder / f"{frame.stem}.png", folder / f"{frame.stem}_overlay.jpg")
        for frame in sorted((_EXAMPLES / "camvid" / "images" / "val").glob("*.jpg"))
    ]
    segmenter = Segmenter.from_weights(STREET_WEIGHTS)
    results, timings = [], []
    with progress(quiet=output.quiet) as bar:
        for job, result in photographs.segment_photos(segmenter, jobs, bar):
            if not isinstance(result, Segmentation):
                raise result
            results.append(result)
            timings.append(photographs.photo_timing(job, result))
            files = {"labels": job.labels, "overlay": job.overlay}
            record_image(output, job.image, files, result.shares(), size=result.labels.shape, seconds=result.seconds)
    output.console.print(photographs.photo_timing_table(timings))
    output.console.print(_share_table(results))
    output.console.print(f"{len(results)} frames segmented by {STREET_WEIGHTS} on {segmenter.device}.")
    return contact_sheet(
        [(result.image, colourise(result.labels, result.palette), result.overlay()) for result in results],
        titles=("frame", "labels", "overlay"),
        class_names=segmenter.card.class_names,
        palette=segmenter.card.palette,
    )


def _refine_aeroplane(folder: Path, output: Output) -> npt.NDArray[np.uint8]:
    """Refine the aeroplane's mask, print its timing, and return its part of the sheet."""
    image, mask = (str(_EXAMPLES / "refine" / f"aeroplane{suffix}") for suffix in (".jpg", ".png"))
    jobs, _ = plan(image, mask, folder / "aeroplane_refined.png", with_cut_out=True)
    refiner = Refiner.from_weights(REFINER_WEIGHTS)
    work = partial(refine.refine, refiner, steps=4, band=None, binary=False)
    read = partial(refine.read, as_classes=False, one_object=True)
    with progress(quiet=output.quiet) as bar:
        [(job, result, seconds)] = run_jobs(
            jobs, read=read, work=work, write=refine.write, bar=bar, description="refining"
        )
    if isinstance(result, Exception):
        raise result
    output.console.print(refine.refine_timing_table([refine.refine_timing(job, result, seconds)]))
    output.record("mask", status="done", image=job.image, mask=job.mask, refined=job.target, alpha=job.cut_out)
    material = result.material
    assert isinstance(material.mask, ObjectMask)
    output.console.print(f"1 mask refined by {REFINER_WEIGHTS} on {refiner.device}.")
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
