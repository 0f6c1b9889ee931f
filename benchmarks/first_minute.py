"""How long the command line takes to answer, whole processes from start to end, beside another version of itself.

    .venv/bin/python benchmarks/first_minute.py [--against FOLDER] [--output benchmarks/results/first_minute.json]

FOLDER is a checkout of another version, run with the same Python and libraries. The two take turns, and medians count.
`--table` prints docs/first-minute.md's table from the results, and `--parts` where the time of one photograph goes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "first_minute.json"
EXAMPLES = ROOT / "src" / "segscape" / "examples"
PHOTO = sorted((EXAMPLES / "camvid" / "images" / "val").glob("*.jpg"))[0]

# Words after `segscape`; {output} is a new folder each time. What is wrong in a line is meant to be.
CASES = {
    "version": "--version",
    "help": "--help",
    "help of segment": "segment --help",
    "help of fit": "fit --help",
    "networks and weights": "models",
    "a mistyped command": "segmnt",
    "a mistyped argument": "segment photo.jpg --ouput labels",
    "a wrong value": "segment photo.jpg --output labels --runtime opnvino",
    "a config that is not there": "fit --config scapenet_lite0/stret",
    "a mistyped setting": "fit --config scapenet_lite0/street --data.rot data",
    "a check of five frames": f"data check {EXAMPLES / 'camvid'}",
    "one photograph": f"segment {PHOTO} --output {{output}}",
    "five photographs": f"segment {PHOTO.parent} --output {{output}}",
    "one photograph, --runtime auto": f"segment {PHOTO} --output {{output}} --runtime auto",
}


def seconds(checkout: Path, words: str) -> float:
    """Run a command of a checkout, and return the seconds that its process took."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "segscape.cli.main", *words.format(output=output).split()]
        start = time.perf_counter()
        subprocess.run(command, env=environment, capture_output=True, check=False, cwd=output)
        return time.perf_counter() - start


def measure(checkouts: dict[str, Path], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of every run, by case and checkout; the first run of each does not count."""
    from rich.progress import track

    found: dict[str, dict[str, list[float]]] = {case: {name: [] for name in checkouts} for case in CASES}
    rounds = [(case, number) for case in CASES for number in range(repeats + 1)]
    for case, number in track(rounds, "commands"):
        for name, checkout in checkouts.items():
            taken = seconds(checkout, CASES[case])
            if number:
                found[case][name].append(taken)
    return found


def parts() -> Iterator[tuple[str, float]]:
    """Yield what one photograph spends its time on, in this process, which must be new."""
    begun = time.perf_counter()

    def lap(title: str) -> tuple[str, float]:
        nonlocal begun
        begun, before = time.perf_counter(), begun
        return title, begun - before

    from segscape.arguments import COMMANDS, parse

    arguments = parse(["segment", str(PHOTO), "--output", tempfile.mkdtemp()])
    COMMANDS["segment"].check(arguments)
    yield lap("arguments, checked")
    import torch  # noqa: F401

    yield lap("PyTorch is loaded")
    from segscape.cli.commands import segment
    from segscape.segmentation.segmenter import Segmenter

    yield lap("all else is loaded: OpenCV, Pillow, the package")
    from segscape.choices import STREET_WEIGHTS

    segmenter = Segmenter.from_weights(STREET_WEIGHTS)
    yield lap("the network is built, and its weights read")
    segmenter.segment(PHOTO)
    yield lap("the image is read, the network runs for the first time, labels")
    segmenter.segment(PHOTO)
    yield lap("(a second photograph, for which the compiled loops are loaded)")
    assert segment.run is not None


def table() -> str:
    """Return the table of the committed results, in Markdown."""
    results = json.loads(RESULTS.read_text())
    rows = ["| command | before, s | now, s | ratio |", "|---|---:|---:|---:|"]
    for case, runs in results["seconds"].items():
        before, now = (statistics.median(runs[name]) for name in ("before", "now"))
        words = CASES[case].replace(str(EXAMPLES), "EXAMPLES").replace(PHOTO.name, "FRAME.jpg").format(output="labels")
        rows.append(f"| {case}: `segscape {words}` | {before:.2f} | {now:.2f} | {before / now:.1f} |")
    return "\n".join(rows)


def main() -> None:
    """Measure and write the results, or print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a checkout of another version")
    parser.add_argument("--repeats", type=int, default=7, help="counted runs of each command (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the table of the results, and stop")
    parser.add_argument("--parts", action="store_true", help="print where the time of one photograph goes, and stop")
    arguments = parser.parse_args()
    if arguments.table:
        print(table())
        return
    if arguments.parts:
        for title, taken in parts():
            print(f"{taken:6.2f} s  {title}")
        return
    checkouts = {"now": ROOT}
    if arguments.against is not None:
        checkouts = {"before": arguments.against, **checkouts}
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    versions = {name: version(name) for name in ("torch", "numba", "numpy")}
    found = measure(checkouts, arguments.repeats)
    arguments.output.write_text(
        json.dumps({"machine": machine, "versions": versions, "seconds": found}, indent=1) + "\n"
    )
    for case, runs in found.items():
        print(f"{case:34}", *(f"{name} {statistics.median(times):6.2f} s" for name, times in runs.items()))


if __name__ == "__main__":
    main()
