"""Train every segmentation network for the same time on the same data, one after the other, and compare them.

    python scripts/compare_networks.py camvid --root data/camvid --minutes 2
    python scripts/compare_networks.py dronedeploy --root data/dronedeploy --minutes 2

Each network starts from scratch in a process of its own. Its first steps are timed (without a GPU in processor time of
one thread, which other work on the machine does not count in), the schedule is laid out for as many steps as fit in the
time, and then it is trained, with the same losses (cross entropy of the logits and, with a
weight of 0.4, of every auxiliary logits), optimiser, augmentation and number of pixels a step. What it has learned is
measured on the validation split. `docs/comparison.md` is written from all results that are there.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import track

from segscape.data.transforms import StdcAugmentation
from segscape.evaluation.protocols import EvaluationProtocol
from segscape.networks import SegmentationNetwork, list_models
from segscape.registry import model_entry
from segscape.training.datamodule import SegmentationDataModule
from segscape.training.optimisers import OptimiserSettings, Schedule
from segscape.training.segmentation import SegmentationTask

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
PAGE = Path(__file__).parent.parent / "docs" / "comparison.md"
PIXELS_A_STEP = 4 * 256 * 256
TIMED_STEPS = 3
# LIP's forms of ISNet differ in the shortcut that LIP needs.
LEFT_OUT = ("isnet_resnet50_lip", "isnet_resnet101_lip")

INTRODUCTION = """# The networks compared

Every segmentation network trained from scratch for the same time, with the same losses, optimiser, augmentation and
pixels a step (`scripts/compare_networks.py`), then measured on whole validation images at their own size. Without a GPU
time is processor time of one thread. Memory is the peak of the whole process, libraries included.
`dabnet_resnet18_p16` takes no crops smaller than 512 pixels, and training needs two: it gets twice the pixels a step.

**Read with care:** without a GPU this is few steps, so these tables say which network learns fast on a
small machine, not which one is best in the end. The authors' figures, after days on several GPUs, are in
[recipes.md](recipes.md). Nothing has been measured on a GPU."""


class ThinnedData(SegmentationDataModule):
    """The data module with only every n-th validation image; neighbours in a video are alike anyway."""

    every = 1

    def setup(self, stage: str) -> None:
        """Find the files, then leave most validation images out."""
        super().setup(stage)
        if stage == TrainerFn.VALIDATING:
            self._val.pairs = self._val.pairs[:: self.every]


def crop_side(name: str) -> int:
    """256 pixels, or the least that the network takes."""
    with torch.device("meta"):
        network = model_entry(name).build(num_classes=2)
    assert isinstance(network, SegmentationNetwork)
    return max(256, network.size_multiple)


def data_module(dataset: str, root: str, side: int) -> ThinnedData:
    """The data set with crops of a given side, as many a step as give the common number of pixels."""
    augmentation = StdcAugmentation(
        (side, side),
        scales=(0.75, 1.0, 1.25) if side == 256 else (1.5, 2.0),
        colour=0.3,
        quarter_turns=dataset == "dronedeploy",
    )
    return ThinnedData(
        dataset=dataset,
        root=root,
        augmentation=augmentation,
        # One crop of 512 pixels has as many as four of 256, but the normalisation of pooled features needs two.
        batch_size=max(PIXELS_A_STEP // side**2, 2),
        num_workers=0,
        in_memory=True,
    )


def new_task(name: str, data: SegmentationDataModule) -> SegmentationTask:
    """The network with what all have in common."""
    optimiser = OptimiserSettings(
        "adamw",
        lr=1e-3,
        weight_decay=0.05,
        head_lr_factor=1.0,
        train_backbone_norms=True,
        schedule=Schedule("linear", warmup_steps=5),
    )
    torch.manual_seed(0)
    protocols = [EvaluationProtocol()]
    return SegmentationTask(
        name=name, label_spec=data.label_spec, optimiser=optimiser, protocols=protocols, channels_last=True
    )


def now() -> float:
    """Seconds: of this process's own work on a CPU, of the clock with a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class StepTimes(L.Callback):
    """When each step ended, in seconds."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def on_train_batch_end(self, *arguments: object) -> None:
        """Note the time."""
        self.moments.append(now())

    def median(self) -> float:
        """Of the seconds between the ends of two steps."""
        return statistics.median(b - a for a, b in zip(self.moments, self.moments[1:], strict=False))


def fit(task: SegmentationTask, data: SegmentationDataModule, steps: int) -> StepTimes:
    """Train for a number of steps, without evaluation."""
    times = StepTimes()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = L.Trainer(
        max_steps=steps,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=[times],
        enable_progress_bar=False,
        use_distributed_sampler=False,
        gradient_clip_val=5.0,
        **quiet,
    )
    trainer.fit(task, data)
    return times


def measure(task: SegmentationTask, data: SegmentationDataModule) -> dict[str, float]:
    """The scores on the validation split."""
    trainer = L.Trainer(logger=False, enable_progress_bar=False, use_distributed_sampler=False)
    trainer.validate(task, data, verbose=False)
    scores = next(iter(task.results.values()))
    return {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy}


def run_one(name: str, arguments: argparse.Namespace) -> dict[str, object]:
    """One network's row."""
    L.seed_everything(0, verbose=False)
    torch.set_num_threads(1)
    side = crop_side(name)
    data = data_module(arguments.dataset, arguments.root, side)
    data.every = arguments.every
    trial = fit(new_task(name, data), data, TIMED_STEPS + 1).median()
    steps = max(int(arguments.minutes * 60 / trial), 2)
    task = new_task(name, data)
    start = now()
    times = fit(task, data, steps)
    training_seconds = now() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = now()
    return {
        "network": name,
        "crop": side,
        "batch": data.batch_size,
        "steps": steps,
        "seconds_a_step": times.median(),
        "training_seconds": training_seconds,
        "peak_memory_mib": memory,
        **measure(task, data),
        "evaluation_seconds": now() - start,
    }


def processor() -> str:
    """The name of what computes."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"one thread of {model}"


def write_page() -> None:
    """`docs/comparison.md` from the results of all data sets."""
    parts = [INTRODUCTION]
    for path in sorted(RESULTS.glob("comparison_*.json")):
        result = json.loads(path.read_text())
        parts += [
            "",
            f"## {result['dataset']}",
            "",
            f"{result['minutes'] * 60:g} seconds of training each on {result['processor']}, torch {result['torch']}, "
            f"{result['date']}. Validation: {result['protocol']}.",
            "",
            "| network | val mIoU | pixel accuracy | steps | ms a step | crops | peak memory, MiB |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in sorted(result["rows"], key=lambda row: -row["miou"]):
            parts.append(
                f"| `{row['network']}` | {row['miou']:.3f} | {row['pixel_accuracy']:.3f} | {row['steps']} | "
                f"{row['seconds_a_step'] * 1000:.0f} | {row['batch']} x {row['crop']}x{row['crop']} | "
                f"{row['peak_memory_mib']:.0f} |"
            )
    PAGE.write_text("\n".join(parts) + "\n")


def main() -> None:
    """Compare, or as a child process train one network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="camvid or dronedeploy")
    parser.add_argument("--root", required=True, help="its folder")
    parser.add_argument("--minutes", type=float, default=2.0, help="of training, each (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="measure every n-th validation image (default: all)")
    parser.add_argument("--only", help="print the result of one network and write nothing")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(run_one(arguments.only, arguments)))
        return
    names = [name for name in list_models() if name not in LEFT_OUT]
    target = RESULTS / f"comparison_{arguments.dataset}.json"
    result = {
        "dataset": arguments.dataset,
        "minutes": arguments.minutes,
        "processor": processor(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "protocol": f"one in {arguments.every} images of val, {EvaluationProtocol()}",
        "rows": [],
    }
    console = Console(stderr=True)
    for name in track(names, description=arguments.dataset, console=console):
        command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        result["rows"].append(row)
        console.print(f"{name}: mIoU {row['miou']:.3f} after {row['steps']} steps of {row['seconds_a_step']:.2f} s")
        # Each network is kept as soon as it is done.
        target.write_text(json.dumps(result, indent=2) + "\n")
        write_page()


if __name__ == "__main__":
    main()
