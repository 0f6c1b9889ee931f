"""Scenes of any size segmented one after the other, each with its plan printed first and its progress shown."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.progress import Progress
from rich.table import Table

from segscape.cli.jobs.files import named
from segscape.cli.output import Output, record_failure, record_image
from segscape.cli.progress import show_error
from segscape.messages import one_line
from segscape.runtime.system_memory import resident
from segscape.scenes.files import Refine, SceneFiles
from segscape.scenes.planner import seconds_per_pixel
from segscape.scenes.scene import Scene, SceneSettings
from segscape.segmentation.segmenter import Segmenter

SceneKind = Literal["photograph", "raster"]
_LARGE = 50_000_000
"""The number of pixels from which the plan of a scene among several is printed."""
_LARGEST = 3


@dataclass(frozen=True)
class SceneJob:
    """One image to segment.

    Attributes:
        image: The file to read.
        files: The files to write.
        kind: A photograph is seen at the working size, a raster within the working resolution if its own is known.
    """

    image: Path
    files: SceneFiles
    kind: SceneKind


def segment_scenes(
    segmenter: Segmenter,
    jobs: Sequence[SceneJob],
    settings: SceneSettings,
    bar: Progress,
    output: Output,
    *,
    refine: Refine | None,
) -> int:
    """Segment each job, and print its outcome.

    Args:
        segmenter: Holds the network and its card.
        jobs: In the order in which they are done.
        settings: How to segment.
        bar: Shows the progress of each job.
        output: Gets a record of each job.
        refine: See `Scene`.

    Returns:
        The number of jobs that failed.

    Raises:
        KeyboardInterrupt: The user has stopped it; the message explains how to resume.
    """
    failed = 0
    for job in jobs:
        try:
            with Scene(segmenter, job.image, job.files, settings, refine=refine) as scene:
                _segment(scene, job, segmenter, bar, output, is_alone=len(jobs) == 1)
        except Exception as error:  # one file that a library stumbles over does not end the others
            failed += 1
            show_error(bar, named(error, job))
            record_failure(output, job.image, named(error, job))
    return failed


def segment_scenes_on_ray(
    segmenter: Segmenter,
    jobs: Sequence[SceneJob],
    settings: SceneSettings,
    bar: Progress,
    output: Output,
    *,
    address: str | None,
    refine: Refine | None,
) -> int:
    """Segment all jobs on a Ray cluster, and print the outcome of each.

    Args:
        segmenter: Holds the network and its card.
        jobs: In any order.
        settings: How to segment.
        bar: Shows the progress of all jobs, in images.
        output: Gets a record of each job.
        address: Of the cluster; without one, a Ray of this machine is started.
        refine: See `Scene`.

    Returns:
        The number of jobs that failed.

    Raises:
        ConnectionError: There is no cluster at the address.
        KeyboardInterrupt: The user has stopped it; the message explains how to resume.
    """
    from segscape.scenes.cluster.driver import segment_on_ray

    wanted = {job.image: job.files for job in jobs}
    task = bar.add_task("images", total=len(jobs))
    failed = 0
    try:
        for image, outcome in segment_on_ray(
            segmenter,
            wanted,
            settings,
            address=address,
            refine=refine,
            on_progress=lambda share: bar.update(task, completed=share * len(jobs)),
        ):
            if isinstance(outcome, Exception):
                failed += 1
                show_error(bar, outcome)
                record_failure(output, image, outcome)
            else:
                bar.console.print(f"{wanted[image].labels}: {largest(outcome)}")
                record_image(output, image, wanted[image].by_kind, outcome)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; the same command goes on from what is done.") from None
    return failed


def _segment(
    scene: Scene, job: SceneJob, segmenter: Segmenter, bar: Progress, output: Output, *, is_alone: bool
) -> None:
    height, width = scene.size
    if is_alone or height * width >= _LARGE:
        bar.console.print(plan_table(scene, job.image.name, segmenter))
    if scene.resumed:
        bar.console.print(f"{job.image.name}: going on with what an interrupted run has left.")
    megapixels = height * width / 1e6
    task = bar.add_task(f"{job.image.name}, megapixels", total=megapixels)
    start = time.perf_counter()
    try:
        shares = scene.run(on_progress=lambda share: bar.update(task, completed=share * megapixels))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; what is done of {job.image} is kept in {scene.folder}. The same command goes on from there; "
            "delete that folder to give it up."
        ) from None
    finally:
        bar.remove_task(task)
    seconds = time.perf_counter() - start
    bar.console.print(
        f"{job.files.labels}: {width} x {height} in {duration(seconds)}, {megapixels / seconds:.2f} megapixels/s; "
        f"{largest(shares)}",
    )
    record_image(output, job.image, job.files.by_kind, shares, size=scene.size, seconds={"all": seconds})


def plan_scenes(segmenter: Segmenter, jobs: Sequence[SceneJob], settings: SceneSettings, output: Output) -> int:
    """Print the plan of each job without carrying it out.

    Args:
        segmenter: Holds the network and its card.
        jobs: The scenes to plan.
        settings: How to segment.
        output: Where to print.

    Returns:
        The number of jobs that could not be planned.
    """
    failed = 0
    for job in jobs:
        try:
            with Scene(segmenter, job.image, job.files, settings) as scene:
                output.console.print(plan_table(scene, job.image.name, segmenter))
                output.record("plan", image=job.image, **job.files.by_kind, **_plan_fields(scene))
        except Exception as error:  # see `segment_scenes`
            failed += 1
            output.errors.print(f"error: {named(error, job)}")
            record_failure(output, job.image, named(error, job))
    return failed


def _plan_fields(scene: Scene) -> dict[str, Any]:
    """Return what is planned, for a line of JSON; memory and disk in bytes."""
    plan = scene.plan
    return {
        "size": plan.size,
        "seen_at": scene.sight.size,
        "mode": plan.mode,
        "exact": plan.exact,
        "reason": plan.reason,
        "memory": plan.memory + resident(),
        "disk": plan.storage,
    }


def plan_table(scene: Scene, name: str, segmenter: Segmenter) -> Table:
    """Return the table of a scene's plan and expected time, for which the network is run on a small image."""
    plan = scene.plan
    table = Table("plan", one_line(name), title_justify="left", show_lines=False)
    height, width = plan.size
    table.add_row("size", f"{width} x {height} pixels, {height * width / 1e6:.1f} megapixels")
    seen_height, seen_width = scene.sight.size
    table.add_row("seen at", f"{scene.sight.reason}: {seen_width} x {seen_height} pixels")
    table.add_row("mode", f"{plan.mode}, {'the result of the whole scene' if plan.exact else 'approximate'}")
    table.add_row("because", plan.reason)
    for stream in dict.fromkeys(plan.streams):
        down, across = stream.parts
        table.add_row("blocks", f"{down} down, {across} across, {stream.rows} rows at a time")
        table.add_row("halo", f"up to {stream.halo} pixels" if stream.halo else "none")
        table.add_row("passes", f"{stream.sweeps}, {stream.image_reads} of them over the image")
    if not plan.exact:
        tile_height, tile_width = plan.tiling.tile
        table.add_row("tiles", f"{plan.tiling.count} of {tile_width} x {tile_height} pixels")
        table.add_row("halo", f"{plan.tiling.overlap} pixels or more shared, blended")
        table.add_row("passes", "1")
    if len(plan.geometries) > 1:
        views = (f"{f.view.scale:g}{' mirrored' if f.view.mirrored else ''}" for f in plan.geometries)
        table.add_row("views", ", ".join(views))
    table.add_row("memory", f"{(plan.memory + resident()) / 1e9:.2f} GB, {plan.memory / 1e9:.2f} of them for the scene")
    table.add_row("disk", f"{plan.storage / 1e9:.2f} GB while it runs")
    run, size = (segmenter.deployed, None) if plan.streams else (segmenter.runtime, segmenter.runtime.size)
    pace = seconds_per_pixel(segmenter.network, run, segmenter.device, size=size)
    table.add_row("time", duration(plan.work * pace) + ", roughly")
    return table


def largest(shares: Mapping[str, float]) -> str:
    """Name the largest classes and their shares, in words."""
    chosen = sorted(shares.items(), key=lambda item: -item[1])[:_LARGEST]
    return ", ".join(f"{name} {share:.0%}" for name, share in chosen)


def duration(seconds: float) -> str:
    """Write a duration in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
