"""The preparation of a data set's download: the layout and the labels that are read."""

from __future__ import annotations

from pathlib import Path

from segscape.data.prepare.manifest import Manifest
from segscape.data.prepare.pairs import PAIR_PREPARATIONS
from segscape.data.prepare.plan import Plan
from segscape.data.prepare.run import PrepareReport, Track, carry_out
from segscape.data.prepare.sources import PREPARATIONS


def prepare(name: str, source: Path, root: Path, *, workers: int, track: Track) -> PrepareReport:
    """Prepare a data set, or the part of it that is not prepared yet.

    Images become hard links to the source's files, or copies where the two folders lie on different disks; labels are
    converted. `manifest.json` in the root records the counts and the sha256 of every file. A file that matches its
    record is left as it is, so a stopped run can be resumed and a second run finds nothing to do. Sources of pairs may
    share a root; their manifest is `manifest.<name>.json`.

    Args:
        name: One of `PREPARATIONS` or `PAIR_PREPARATIONS`.
        source: The unpacked download; of pairs also the zip file, or the folder of several.
        root: The folder to write; for some data sets it may be `source`.
        workers: The number of processes.
        track: For a progress bar.

    Returns:
        The report. If it names problems, the rest is prepared, there is no new manifest, and the next run continues.

    Raises:
        FileNotFoundError: The source is missing, or is no download of the data set.
        ValueError: The root holds another data set.
        OSError: The disk is full, or a folder may not be written to.
    """
    plan = plan_of(name, source)
    return carry_out(plan, Manifest(root, name, shared=name in PAIR_PREPARATIONS), workers=workers, track=track)


def plan_of(name: str, source: Path) -> Plan:
    """Plan the preparation of a data set.

    Args:
        name: See `prepare`.
        source: See `prepare`.

    Raises:
        FileNotFoundError: The source is missing, or is no download of the data set.
    """
    make_plan, expected = (PREPARATIONS | PAIR_PREPARATIONS)[name]
    if not source.exists():
        raise FileNotFoundError(f"There is no folder {source}.")
    plan = make_plan(source)
    if not plan.tasks and not plan.problems:
        raise FileNotFoundError(f"{source} is no download of {name}; expected in it: {expected}.")
    return plan


__all__ = ["PAIR_PREPARATIONS", "PREPARATIONS", "PrepareReport", "plan_of", "prepare"]
