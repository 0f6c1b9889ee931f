"""Segscape beside what users would write or install instead: the same work on the same machine, in turn.

    python benchmarks/side_by_side.py                                  all, a quarter of an hour on two cores
    python benchmarks/side_by_side.py --only stdc1_seg@1024x2048 --repeats 5
    python benchmarks/side_by_side.py --peers /tmp/peers/bin/python    networks of other packages, too
    python benchmarks/side_by_side.py --table                          only write the table of docs/benchmark.md

Every pipeline goes from a PNG on disk to labels on disk at the image's size, batch 1, in a process of its own; they
take turns, an image each, so that whatever else the machine does hits all alike. The first images of each do not count,
all others do.

- plain: Pillow, eager float32 with every training head, `F.interpolate`, softmax, arg-max, Pillow.
- lean: what a user who knows PyTorch writes: no training heads, normalisation folded into convolutions, channels last,
  `F.interpolate`, arg-max, Pillow.
- torch, winograd, openvino fp32, auto, openvino int8: `Segmenter.segment` and `save`; then many files as the command
  line does them, reading and writing beside the computation.
- peers: networks of other packages with Pillow, `F.interpolate` and arg-max around them.

Ways other than Segscape's run with PyTorch's own setting of memory; Segscape asks for large pages when it is imported.
Writes `benchmarks/results/side_by_side.json`, in which rows that are measured again take the place of the old ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from pipelines import STAGES

import segscape
from segscape.benchmark.report import machine
from segscape.benchmark.subject import example_frames
from segscape.files import atomic_path
from segscape.runtime.machine import versions

HERE = Path(__file__).parent
RESULT = HERE / "results" / "side_by_side.json"
PAGE = HERE.parent / "docs" / "benchmark.md"
BEGIN, END = (f"<!-- {word} of what benchmarks/side_by_side.py writes -->" for word in ("Begin", "End"))
PLAIN, LEAN = "plain", "lean"
OURS = ("torch", "winograd", "openvino fp32", "auto", "openvino int8")
PEERS = ("smp_deeplabv3plus_resnet18", "smp_unet_resnet18", "transformers_segformer_b0", "mmseg_stdc1")
BESIDE_PEERS = "stdc1_seg"
LEAST_TIMES_LEAN = {"auto": 2.2}
MOST_OUTSIDE = 0.15
PACKAGES = ("torch", "openvino", "onnxruntime", "nncf", "pillow")


class Case(NamedTuple):
    """A network at a size (height, width)."""

    network: str
    size: tuple[int, int]

    def __str__(self) -> str:
        return "{}@{}x{}".format(self.network, *self.size)

    @classmethod
    def of(cls, text: str) -> Case:
        """The case that a text such as `stdc1_seg@512x1024` means."""
        found = re.fullmatch(r"(\w+)@(\d+)x(\d+)", text)
        if not found:
            raise argparse.ArgumentTypeError(f"{text} is no case; write NETWORK@HEIGHTxWIDTH, as stdc1_seg@512x1024.")
        return cls(found[1], (int(found[2]), int(found[3])))

    def least_times_plain(self, pipeline: str) -> float | None:
        """How many times faster than the plain pipeline a pipeline is meant to be at least."""
        goals = {"winograd": 3.5, "openvino fp32": 3.5, "auto": 6.0, "openvino int8": 10.0}
        return 5.0 if pipeline == "auto" and self.size[0] < 1024 else goals.get(pipeline)


CASES = (
    *(
        Case(network, size)
        for network in ("scapenet_lite0", "stdc1_seg", "bisestdc")
        for size in ((512, 1024), (1024, 2048))
    ),
    Case("isdnet_resnet18", (2448, 2448)),
)


class PipelineFailedError(RuntimeError):
    """A pipeline's process ended; the message says why."""


class Worker:
    """A process that runs one pipeline when it is asked to.

    Args:
        python: The interpreter.
        words: The arguments of `benchmarks/pipelines.py`.
        folder: Its own, where it writes labels.

    Raises:
        PipelineFailedError: It cannot be run here.
    """

    def __init__(self, python: str, words: list[str], folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        log = folder / "errors"
        ours = words[0] in OURS
        environment = os.environ if ours else {**os.environ, "THP_MEM_ALLOC_ENABLE": "0"}
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [python, str(HERE / "pipelines.py"), *words, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        self._log = log
        self.computes = self._answer()["computes"]

    def ask(self, line: str = "") -> dict[str, float]:
        """What the process answers to a line."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def peak_mib(self) -> float:
        """The most memory that it has had."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        assert found
        return int(found[1]) / 1024

    def stop(self) -> None:
        """End it."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            *_, last = ["", *self._log.read_text().strip().splitlines()]
            raise PipelineFailedError(last or f"its process ended with status {self._process.returncode}")
        return json.loads(line)


def street_frame(size: tuple[int, int]) -> Image.Image:
    """A shipped street frame, cut to the shape of `size` (height, width) and enlarged to it."""
    with Image.open(example_frames()[0]) as frame:
        scale = min(frame.height / size[0], frame.width / size[1])
        height, width = (round(side * scale) for side in size)
        left, top = (frame.width - width) // 2, (frame.height - height) // 2
        part = frame.crop((left, top, left + width, top + height))
    return part.resize(size[::-1], Image.Resampling.BICUBIC)


@contextmanager
def workers(case: Case, pipelines: list[str], peers: str | None, folder: Path) -> Iterator[dict[str, Worker]]:
    """A process for each pipeline that can be run here; the others are named on standard error."""
    frame = folder / "frame.png"
    street_frame(case.size).save(frame)
    names = [(pipeline, sys.executable, [pipeline, case.network]) for pipeline in pipelines]
    if peers and case.network == BESIDE_PEERS:
        names += [(peer, peers, ["peer", peer]) for peer in PEERS]
    with ExitStack() as stack:
        started = {}
        for pipeline, python, words in names:
            try:
                worker = Worker(python, [*words, str(frame)], folder / pipeline.replace(" ", "_"))
            except PipelineFailedError as error:
                print(f"{case} {pipeline} is left out: {error}", file=sys.stderr, flush=True)
                continue
            stack.callback(worker.stop)
            started[pipeline] = worker
        yield started


def measure(case: Case, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one case."""
    with (
        tempfile.TemporaryDirectory() as folder,
        workers(case, arguments.pipelines, arguments.peers, Path(folder)) as started,
    ):
        samples: dict[str, list[dict[str, float]]] = {pipeline: [] for pipeline in started}
        for turn in range(arguments.warm_up + arguments.repeats):
            for pipeline, worker in started.items():
                seconds = worker.ask()
                if turn >= arguments.warm_up:
                    samples[pipeline].append(seconds)
        rows = [row_of(case, pipeline, started[pipeline], rows) for pipeline, rows in samples.items()]
        labels = {
            pipeline: np.asarray(Image.open(worker.folder / "labels.png")) for pipeline, worker in started.items()
        }
        for row in rows:
            pipeline = row["pipeline"]
            for base in (PLAIN, LEAN):
                if base in samples:
                    total = next(other["total_ms"] for other in rows if other["pipeline"] == base)
                    row[f"times_{base}"] = round(total / row["total_ms"], 2)
            if pipeline not in PEERS and PLAIN in labels:
                row["labels_agree"] = round(float((labels[pipeline] == labels[PLAIN]).mean()), 6)
            if pipeline in OURS and arguments.files:
                answer = started[pipeline].ask(f"pipelined {arguments.files}")
                row["pipelined_per_second"] = round(answer["per_second"], 3)
    return rows


def row_of(case: Case, pipeline: str, worker: Worker, samples: list[dict[str, float]]) -> dict[str, Any]:
    """One pipeline's figures, of all its images that count."""
    totals = [sum(sample.values()) for sample in samples]
    stages = {stage: statistics.median(sample[stage] for sample in samples) for stage in STAGES}
    return {
        "network": case.network,
        "size": list(case.size),
        "pipeline": pipeline,
        "computes": worker.computes,
        "images": len(samples),
        **{f"{stage}_ms": round(1000 * seconds, 2) for stage, seconds in stages.items()},
        "total_ms": round(1000 * statistics.median(totals), 2),
        "total_p90_ms": round(1000 * float(np.quantile(totals, 0.9)), 2),
        "outside_network": round(statistics.median(1 - s["network"] / sum(s.values()) for s in samples), 3),
        "peak_mib": round(worker.peak_mib()),
    }


def join(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows, the new ones in place of old ones of the same case and pipeline."""
    rows = {(row["network"], *row["size"], row["pipeline"]): row for row in (*old, *new)}
    return list(rows.values())


def table(result: dict[str, Any]) -> str:
    """The results as Markdown: a table for each case."""
    lines = [
        f"{result['machine']['processor']}, {result['machine']['threads']} threads; "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items() if number != "-")
        + ". Milliseconds, medians; goals in brackets."
    ]
    figures = "read, network, labels, write, total, p90, times plain, times lean, outside, labels equal, files/s, MiB"
    heads = f"pipeline, {figures}"
    cases = dict.fromkeys(Case(row["network"], tuple(row["size"])) for row in result["rows"])
    for case in cases:
        own = [row for row in result["rows"] if (row["network"], tuple(row["size"])) == case]
        lines += ["", "**`{}`, {} x {}**".format(case.network, *case.size), ""]
        lines += [f"| {heads.replace(', ', ' | ')} |", "|---" * (heads.count(",") + 1) + "|"]
        lines += [f"| {' | '.join(cells(case, row))} |" for row in own]
    return "\n".join(lines)


def cells(case: Case, row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    pipeline = row["pipeline"]
    computes = f" ({row['computes']})" if pipeline == "auto" else ""
    ours = pipeline in OURS
    return [
        pipeline + computes,
        *(f"{row[f'{stage}_ms']:.0f}" for stage in STAGES),
        f"{row['total_ms']:.0f}",
        f"{row['total_p90_ms']:.0f}",
        with_goal(row.get("times_plain"), case.least_times_plain(pipeline)),
        with_goal(row.get("times_lean"), LEAST_TIMES_LEAN.get(pipeline)),
        f"{row['outside_network']:.0%}" + (f" (<= {MOST_OUTSIDE:.0%})" if ours else ""),
        f"{row['labels_agree']:.2%}" if "labels_agree" in row else "",
        f"{row['pipelined_per_second']:.2f}" if "pipelined_per_second" in row else "",
        str(row["peak_mib"]),
    ]


def with_goal(ratio: float | None, least: float | None) -> str:
    """A ratio with what it is meant to be at least."""
    text = "" if ratio is None else f"{ratio:.2f}"
    return text if least is None else f"{text} (>= {least})"


def write_table(result: dict[str, Any]) -> None:
    """Put the table into the page in place of the old one."""
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(result)}\n\n{END}{after}")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=Case.of, nargs="+", default=CASES, metavar="NETWORK@HxW", help="cases to run")
    parser.add_argument("--pipelines", nargs="+", choices=(PLAIN, LEAN, *OURS), default=(PLAIN, LEAN, *OURS))
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has what peers/requirements.txt lists")
    parser.add_argument(
        "--repeats", type=int, default=10, help="images of each pipeline that count (default: %(default)s)"
    )
    parser.add_argument("--warm-up", type=int, default=2, help="images before them (default: %(default)s)")
    parser.add_argument("--files", type=int, default=12, help="of the command line's pipeline over many (default: 12)")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--table", action="store_true", help="measure nothing; write the docs' table from the results")
    return parser


def main() -> None:
    """Measure, and write the results after each case."""
    arguments = parser().parse_args()
    if arguments.table:
        write_table(json.loads(RESULT.read_text()))
        return
    result: dict[str, Any] = {"rows": []}
    for case in arguments.only:
        rows = measure(case, arguments)
        known = json.loads(arguments.output.read_text())["rows"] if arguments.output.exists() else []
        result = {
            "machine": machine(torch.device("cpu")),
            "versions": {
                "python": platform.python_version(),
                "segscape": segscape.__version__,
                **versions(*PACKAGES),
            },
            "rows": join(known, rows),
        }
        with atomic_path(arguments.output) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")
        print(table({**result, "rows": rows}), flush=True)


if __name__ == "__main__":
    main()
