r"""Make a run's weights small enough to ship, measure what that costs, and write them into the package.

    python scripts/ship_weights.py runs/stdc1_seg/camvid stdc1_seg.camvid --data-root data/camvid \
        --training "..." --licence "..."

Convolutions become float16. Where the file would still exceed the limit, the largest kernels become 8-bit floats
(e4m3): each output channel is first scaled by a power of two into that type's range, and the scale is taken back in
the normalisation behind it, which stays float32. The score in the card is that of the file as it ships.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import shutil
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.store import create_model, read_weights, write_weights
from segscape.data.datasets import SegmentationDataset, find_dataset
from segscape.inference.protocols import EvaluationProtocol, score_maps
from segscape.metrics import ConfusionMatrix, Scores, scores
from segscape.viz.plots import read_metrics

FLOAT8 = torch.float8_e4m3fn


def pack(state: dict[str, Tensor], limit: int) -> dict[str, Tensor]:
    """The state in short types, at most `limit` bytes of tensors.

    Raises:
        ValueError: The limit cannot be met.
    """
    packed = {
        key: value.half() if value.ndim == 4 else value for key, value in state.items() if "num_batches" not in key
    }
    packed |= {key: value for key, value in state.items() if "num_batches" in key}
    kernels = sorted((key for key in packed if key.endswith(".conv.weight")), key=lambda key: -packed[key].numel())
    while sum(value.nbytes for value in packed.values()) > limit:
        if not kernels:
            raise ValueError(f"the weights cannot be made smaller than {limit} bytes")
        key = kernels.pop(0)
        _to_float8(packed, state[key], key)
        print(f"8-bit: {key} {tuple(state[key].shape)}")
    return packed


def _to_float8(packed: dict[str, Tensor], kernel: Tensor, key: str) -> None:
    """Store `kernel` in 8 bits, scaled, and the normalisation behind it so that the outputs stay the same."""
    norm = key.removesuffix("conv.weight") + "bn."
    largest = kernel.flatten(1).abs().amax(1).clamp(min=1e-12)
    scale = torch.exp2(torch.floor(torch.log2(torch.finfo(FLOAT8).max / largest)))
    packed[key] = (kernel * scale[:, None, None, None]).to(FLOAT8)
    packed[f"{norm}running_mean"] = packed[f"{norm}running_mean"] * scale
    # The normalisation adds 1e-5 to the variance, before and after.
    packed[f"{norm}running_var"] = (packed[f"{norm}running_var"] + 1e-5) * scale.square() - 1e-5


@torch.inference_mode()
def measure(weights: Path, card: WeightsCard, dataset: SegmentationDataset) -> Scores:
    """The scores of a weights file on whole images of their own size."""
    network = create_model(card.network, weights=weights).to(memory_format=torch.channels_last)
    confusion = ConfusionMatrix(card.num_classes)
    for index in track(range(len(dataset)), description="measuring"):
        sample = dataset[index]
        maps = score_maps(EvaluationProtocol(), network, sample["image"][None], normalise=card.normalisation)
        confusion.update(maps.argmax(1), sample["mask"][None])
    return scores(confusion.compute())


def write_log(run: Path, path: Path) -> None:
    """Every value that the run logged, resumed parts joined: one row a step, one column a name."""
    metrics = read_metrics(run / "csv")
    rows: dict[int, dict[str, float]] = {}
    for name, points in metrics.items():
        for step, value in points:
            rows.setdefault(step, {})[name] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", *sorted(metrics)], lineterminator="\n")
        writer.writeheader()
        for step in sorted(rows):
            writer.writerow({"step": step, **{name: f"{value:.6g}" for name, value in rows[step].items()}})


def write_records(run: Path, records: Path) -> None:
    """Keep what a run left beside its weights: log, resolved config, curve and predictions."""
    records.mkdir(parents=True, exist_ok=True)
    write_log(run, records / "metrics.csv")
    shutil.copy(run / "checkpoints" / "config.yaml", records / "config.yaml")
    shutil.copy(run / "curve.png", records / "curve.png")
    Image.open(run / "predictions.png").convert("RGB").save(records / "predictions.jpg", quality=88)


def main() -> None:
    """Pack, measure and write the weights and their records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("name", help="the name to ship under, <network>.<data set>")
    parser.add_argument(
        "--data-root", type=Path, required=True, help="the data set's folder, with its validation split"
    )
    parser.add_argument("--limit", type=float, default=14.9e6, help="bytes of tensors")
    parser.add_argument("--training", required=True, help="how they were trained, for the card")
    parser.add_argument("--licence", required=True, help="the terms on which they may be used, for the card")
    arguments = parser.parse_args()

    source = arguments.run / "weights.safetensors"
    card, state = read_weights(source)
    dataset = find_dataset(arguments.name.split(".")[1])(arguments.data_root, "val")
    before = measure(source, card, dataset)
    packed = pack(state, int(arguments.limit))
    root = Path(__file__).parent.parent
    target = root / "src" / "segscape" / "weights" / f"{arguments.name}.safetensors"
    height, width = dataset[0]["mask"].shape
    protocol = (
        f"{dataset.label_spec.name} val, {len(dataset)} images of {width}x{height}, {card.num_classes} classes, "
        "single scale, whole image"
    )
    card = dataclasses.replace(card, training=arguments.training, protocol=protocol, licence=arguments.licence)
    write_weights(target, card, packed)
    after = measure(target, card, dataset)
    score = {"miou": after.miou, "pixel_accuracy": after.pixel_accuracy, "class_accuracy": after.class_accuracy}
    write_weights(target, dataclasses.replace(card, score=score), packed)

    write_records(arguments.run, root / "docs" / "weights" / arguments.name)
    console = Console(highlight=False)
    console.print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")
    for name, result in (("as trained", before), ("as shipped", after)):
        console.print(f"{name}: mIoU {result.miou:.4f}, pixel accuracy {result.pixel_accuracy:.4f}")
    for name, iou in zip(card.class_names, after.iou, strict=True):
        console.print(f"  {name}: {iou:.4f}")


if __name__ == "__main__":
    main()
