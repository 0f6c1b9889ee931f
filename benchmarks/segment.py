"""Time and peak memory of `segscape segment` beside the plainest correct PyTorch version of the same network.

Both segment the same 1024 x 2048 frame from file to label PNG, alternately, each in a process of its own, and report
every stage. The plain version is Pillow, float32 in eager mode, `F.interpolate`, `argmax`, Pillow.

    python benchmarks/segment.py [--repeats 7] [--output benchmarks/results/segment.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

import segscape

WEIGHTS = "stdc1_seg.camvid"
SIZE = (1024, 2048)
STAGES = ("read", "network", "labels", "write")


def make_frame(path: Path) -> None:
    """A shipped street frame enlarged to 1024 x 2048: real content at the size of Cityscapes."""
    source = sorted((Path(str(files("segscape"))) / "examples" / "camvid" / "images" / "val").iterdir())[0]
    frame = Image.open(source).crop((0, 60, 480, 300)).resize(SIZE[::-1], Image.Resampling.BICUBIC)
    frame.save(path)


def run_plain(frame: Path, output: Path, repeats: int) -> list[dict[str, float]]:
    network = segscape.create_model("stdc1_seg", weights=WEIGHTS)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    rows = []
    for _ in range(repeats):
        times = [time.perf_counter()]
        pixels = torch.from_numpy(np.array(Image.open(frame).convert("RGB")))
        times.append(time.perf_counter())
        with torch.inference_mode():
            logits = network(((pixels / 255 - mean) / std).permute(2, 0, 1)[None].contiguous())
            times.append(time.perf_counter())
            labels = F.interpolate(logits, SIZE, mode="bilinear", align_corners=True).argmax(1)[0].byte().numpy()
        times.append(time.perf_counter())
        Image.fromarray(labels).save(output)
        times.append(time.perf_counter())
        rows.append(dict(zip(STAGES, np.diff(times).tolist(), strict=True)))
    return rows


def run_segscape(frame: Path, output: Path, repeats: int) -> list[dict[str, float]]:
    segmenter = segscape.Segmenter.from_weights(WEIGHTS, device="cpu")
    rows = []
    for _ in range(repeats):
        result = segmenter.segment(frame)
        start = time.perf_counter()
        result.save(output)
        rows.append({**result.seconds, "write": time.perf_counter() - start})
    return rows


def child(name: str, frame: Path, output: Path, repeats: int) -> None:
    """Run one version and print its rows and its peak memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = {"plain": run_plain, "segscape": run_segscape}[name]
    rows = run(frame, output, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"rows": rows, "peak_mib": peak / 1024, "peak_above_imports_mib": (peak - before) / 1024}))


def measure(repeats: int, rounds: int) -> dict[str, object]:
    """Run both versions in turn and gather medians; the first image of every process is its warm-up."""
    samples: dict[str, list[dict[str, float]]] = {"plain": [], "segscape": []}
    peaks: dict[str, list[float]] = {"plain": [], "segscape": []}
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.png"
        make_frame(frame)
        labels = {name: Path(folder) / f"{name}.png" for name in samples}
        for _ in range(rounds):
            for name in samples:
                command = [sys.executable, __file__, "--child", name, str(frame), str(labels[name]), str(repeats + 1)]
                report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                samples[name] += report["rows"][1:]
                peaks[name].append(report["peak_above_imports_mib"])
        plain, ours = (np.asarray(Image.open(path)) for path in labels.values())
    capability = torch.backends.cpu.get_cpu_capability()
    result: dict[str, object] = {
        "machine": f"{platform.machine()} CPU, {torch.get_num_threads()} threads, {capability}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "segscape": segscape.__version__},
        "work": f"{WEIGHTS}, one {SIZE[0]} x {SIZE[1]} PNG to a label PNG, float32, batch 1",
        "repeats": repeats * rounds,
        "labels_agree": float((plain == ours).mean()),
    }
    totals = {}
    for name, rows in samples.items():
        total = [sum(row.values()) for row in rows]
        totals[name] = statistics.median(total)
        result[name] = {
            **{f"{stage}_ms": round(1000 * statistics.median(row[stage] for row in rows), 1) for stage in STAGES},
            "total_ms": round(1000 * totals[name], 1),
            "total_p90_ms": round(1000 * sorted(total)[int(0.9 * (len(total) - 1))], 1),
            "peak_memory_above_imports_mib": round(statistics.median(peaks[name])),
        }
    result["times_faster"] = round(totals["plain"] / totals["segscape"], 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="images a process, after one to warm up")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each version, in turn")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "segment.json")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, frame, output, repeats = arguments.child
        child(name, Path(frame), Path(output), int(repeats))
        return
    result = measure(arguments.repeats, arguments.rounds)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
