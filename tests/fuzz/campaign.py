"""The campaign: `python -m tests.fuzz [--files 10000] [--seed 0] [--only KIND[:NUMBER] ...] [--keep FOLDER]`.

Each damaged file is given to its command in a process of its own. Right is that the command succeeds, or ends with one
sentence. Findings, of which none is right: a traceback, a process that is ended by a signal or does not end, an error
that a library's own type had to name, memory above the bound, a result that is half-written or, of an interrupted
scene, another one.
"""

import argparse
import contextlib
import faulthandler
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_NUM_THREADS", "1")

PATIENCE = 40
"""Seconds after which a command counts as one that does not end."""
MOST_MEMORY = 1 << 30
"""Bytes that a command may take beside what it begins with."""
MOST_TEXT = 4_000
"""Characters that a command may say of one file, its plan included."""

_kinds = {}
_root = Path()


def prepare(root: Path) -> None:
    """Load once, in a process that the commands are forked from, what each of them would load anew."""
    os.nice(5)
    import torch

    torch.set_num_threads(1)
    import pyogrio.raw  # noqa: F401
    import pyproj  # noqa: F401
    import shapely  # noqa: F401

    from segscape.cli.commands import cutout, refine, segment, train  # noqa: F401
    from segscape.refinement.refiner import Refiner
    from segscape.segmentation.segmenter import Segmenter
    from tests.fuzz.kinds import WEIGHTS, kinds

    from_weights = Segmenter.from_weights.__func__
    kept = cache(lambda *arguments: from_weights(Segmenter, *arguments[:-1], **dict(arguments[-1])))

    def from_kept(cls: type, weights: object, *arguments: object, **options: object) -> Segmenter:
        # Weights that are damaged are read anew.
        if str(weights) != WEIGHTS:
            return from_weights(cls, weights, *arguments, **options)
        # The images that int8 is calibrated on, which no command asks for here.
        options.pop("calibration", None)
        return kept(weights, *arguments, tuple(options.items()))

    Segmenter.from_weights = classmethod(from_kept)
    refiner_of = Refiner.from_weights.__func__
    kept_refiner = cache(lambda *arguments: refiner_of(Refiner, *arguments[:-1], **dict(arguments[-1])))
    Refiner.from_weights = classmethod(
        lambda _, *arguments, **options: kept_refiner(*arguments, tuple(options.items()))
    )
    global _root
    _root = Path(tempfile.mkdtemp(dir=root))
    (_root / "originals").mkdir()
    silently(lambda: _kinds.update(kinds(_root / "originals")))
    # The first use compiles and loads what all others share; see `tests.fuzz.kinds.apart` for what it must not start.
    for name in ("png", "mask.png", "weights", "config", "labels"):
        silently(lambda name=name: command(name, None, Path(tempfile.mkdtemp(dir=_root)), intact=True))


def silently(action) -> None:
    """Do something without a word."""
    kept = os.dup(1), os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        action()
    finally:
        for number, saved in enumerate(kept, start=1):
            os.dup2(saved, number)
            os.close(saved)
        os.close(nothing)


def command(name: str, random: Random | None, work: Path, *, intact: bool = False) -> int:
    """Damage a file of a kind in a folder, and run its command."""
    from segscape.cli.main import main

    kind = _kinds[name]
    original = kind.originals[0] if random is None else random.choice(kind.originals)
    folder = work / "input"
    folder.mkdir(exist_ok=True)
    damaged = folder / original.name
    damaged.write_bytes(original.read_bytes() if intact else kind.mutation(original.read_bytes(), random))
    return main([str(word) for word in kind.words(damaged, work / "output")])


def attempt(name: str, number: int, seed: int, keep: Path | None) -> tuple[str, int, str | None, float]:
    """Try one damaged file, and return what is wrong, if anything is, and the seconds that it took."""
    work = Path(tempfile.mkdtemp(dir=_root))
    log, begun = work / "log", time.perf_counter()
    before = _resident()
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Of a command that does not end, the log says where it is.
        faulthandler.dump_traceback_later(0.9 * PATIENCE)
        try:
            status = command(name, Random(f"{seed}/{name}/{number}"), work)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 70
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    status, usage = _wait(pid)
    seconds = time.perf_counter() - begun
    text = log.read_text(errors="backslashreplace") if log.exists() else ""
    wrong = judge(name, status, text, usage.ru_maxrss * 1024 - before, work)
    if wrong and keep is not None:
        place = keep / f"{name}-{number}"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(work, place, symlinks=True)
    shutil.rmtree(work, ignore_errors=True)
    return name, number, wrong, seconds


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _wait(pid: int):
    deadline = time.monotonic() + PATIENCE
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            _, _, usage = os.wait4(pid, 0)
            return None, usage
        time.sleep(0.002)


def judge(name: str, status: int | None, text: str, memory: int, work: Path) -> str | None:
    """Return what is wrong with the end of a command."""
    from tests.fuzz.kinds import is_whole

    last = next((line for line in reversed(text.splitlines()) if re.match(r"\w*(Error|Exception)\b", line)), "")
    if status is None:
        return "does not end"
    if status < 0:
        return f"ended by signal {-status}"
    if "Traceback" in text or status not in (0, 1, 2, 3):
        return f"traceback, status {status}: {last[:160]}"
    if found := re.search(r"could not be done \((\w+)", " ".join(text.split())):
        return f"an error named by its type: {found[1]}"
    if memory > MOST_MEMORY:
        return f"takes {memory / 1e9:.1f} GB"
    if len(text) > MOST_TEXT and "usage:" not in text:
        return f"says {len(text)} characters"
    if re.search("[\x1b\x07\x9b]", text):
        return "prints control characters"
    output = work / "output"
    results = [path for path in output.rglob("*") if path.is_file()] if output.exists() else []
    for path in results:
        if ".partial" in path.name:
            return f"leaves {path.name}"
        if not path.name.startswith(".") and path.stat().st_size and not is_whole(path):
            return f"half-written: {path.name}"
    for result, content in _kinds[name].expected.items():
        if status == 0 and (output / result).read_bytes() != content:
            return f"{result} is another one"
    return None


def main() -> int:
    """Run the campaign; 1 if there are findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="how many, of all kinds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="KIND", help="a kind, or one file of it as KIND:NUMBER"
    )
    parser.add_argument("--keep", type=Path, help="the folder to keep the inputs and outputs of findings in")
    arguments = parser.parse_args()
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with tempfile.TemporaryDirectory(prefix="fuzz-") as root:
        jobs = os.cpu_count() or 1
        pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=prepare, initargs=(Path(root),))
        with pool:
            counts = pool.submit(_counts).result()
            tries = [
                (name, number)
                for name, count in counts.items()
                for number in range(max(count * arguments.files // sum(counts.values()), 1))
            ]
            if arguments.only:
                tries = [(n, k) for n, k in tries if n in arguments.only or f"{n}:{k}" in arguments.only]
            Random(0).shuffle(tries)
            waiting = [pool.submit(attempt, *each, arguments.seed, arguments.keep) for each in tries]
            findings, done, spent = Counter(), Counter(), Counter()
            columns = [TextColumn("damaged files"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
            with Progress(*columns, TimeRemainingColumn()) as bar:
                for count, future in enumerate(bar.track(waiting)):
                    if count % 500 == 0 and not bar.console.is_terminal:
                        bar.console.print(f"{count} of {len(waiting)} files, {findings.total()} findings")
                    name, number, wrong, seconds = future.result()
                    done[name] += 1
                    spent[name] += seconds
                    if wrong:
                        findings[name] += 1
                        bar.console.print(f"{name}:{number}  {wrong}", markup=False, soft_wrap=True)
    for name in sorted(done):
        print(f"{name:12} {done[name]:5} files, {findings[name]:3} findings, {spent[name] / done[name]:.2f} s each")
    print(f"{done.total()} files with seed {arguments.seed}: {findings.total()} findings")
    return int(findings.total() > 0)


def _counts() -> dict[str, int]:
    return {name: kind.count for name, kind in _kinds.items()}
