r"""Make a run's weights small enough to ship, measure what that costs, and write them into the package.

    python scripts/ship_weights.py runs/scapenet_lite0/street scapenet_lite0.street --config scapenet_lite0/street \
        --data-root data --training "..." --licence "..."

Convolutions become float16. Where the file would still exceed the limit, the largest kernels become 8-bit floats
(e4m3): each output channel is first scaled by a power of two into that type's range, and the scale is taken back in
the normalisation behind it, which stays float32. The score in the card is that of the file as it ships.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import shutil
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from segscape.checkpoints.store import read_weights, write_weights
from segscape.cli.main import main as main_of_segscape
from segscape.registry import model_entry
from segscape.viz.plots import read_metrics

ROOT = Path(__file__).parents[1]
FLOAT8 = torch.float8_e4m3fn


def pack(state: dict[str, Tensor], limit: int, network: nn.Module) -> dict[str, Tensor]:
    """The state in short types, at most `limit` bytes of tensors.

    Args:
        state: The entries of `network`.
        limit: In bytes.
        network: Says which normalisation stands behind which convolution.

    Raises:
        ValueError: The limit cannot be met.
    """
    packed = {key: value.half() if value.ndim == 4 else value for key, value in state.items()}
    norms = {
        f"{place}{name}.weight": (f"{place}{follower}.", norm.eps)
        for place, module in ((f"{path}." if path else "", module) for path, module in network.named_modules())
        for (name, conv), (follower, norm) in pairwise(module.named_children())
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    }
    kernels = sorted((key for key in packed if key in norms), key=lambda key: -packed[key].numel())
    while sum(value.nbytes for value in packed.values()) > limit:
        if not kernels:
            raise ValueError(f"the weights cannot be made smaller than {limit} bytes")
        key = kernels.pop(0)
        _to_float8(packed, state[key], key, *norms[key])
        print(f"8-bit: {key} {tuple(state[key].shape)}")
    return packed


def _to_float8(packed: dict[str, Tensor], kernel: Tensor, key: str, norm: str, eps: float) -> None:
    """Store `kernel` in 8 bits, scaled, and the normalisation behind it so that the outputs stay the same."""
    largest = kernel.flatten(1).abs().amax(1).clamp(min=1e-12)
    scale = torch.exp2(torch.floor(torch.log2(torch.finfo(FLOAT8).max / largest)))
    packed[key] = (kernel * scale[:, None, None, None]).to(FLOAT8)
    packed[f"{norm}running_mean"] = packed[f"{norm}running_mean"] * scale
    # The normalisation adds eps to the variance, before and after.
    packed[f"{norm}running_var"] = (packed[f"{norm}running_var"] + eps) * scale.square() - eps


def measure(weights: Path, config: str, data_root: Path) -> dict[str, dict[str, Any]]:
    """What `segscape validate` reports of a weights file, by data set and protocol."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["validate", "--config", config, "--data.root", str(data_root), "--model.weights", str(weights)]
        status = main_of_segscape([*words, "--trainer.default_root_dir", folder, "--trainer.logger", "false"])
        if status:
            sys.exit(status)
        report: dict[str, dict[str, Any]] = json.loads((Path(folder) / "val_scores.json").read_text())
        return report


def scores_of(report: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The card's scores: of one data set by their names, of several with the data set's before them."""
    if len(report) == 1:
        [only] = report.values()
        return {name: only[name] for name in ("miou", "pixel_accuracy", "class_accuracy")}
    return {f"miou {name.split(', ')[0]}": row["miou"] for name, row in report.items()}


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


def write_records(run: Path, records: Path, *, data_root: Path, with_pictures: bool) -> None:
    """Keep what a run left beside its weights: log, resolved config, curve and, where they may be shown, predictions.

    Args:
        run: The run's folder.
        records: The folder to write to.
        data_root: Where the data lay; the config gets `data` in its place.
        with_pictures: Whether the data's licences let pictures of them be shown.
    """
    records.mkdir(parents=True, exist_ok=True)
    write_log(run, records / "metrics.csv")
    config = (run / "checkpoints" / "config.yaml").read_text()
    (records / "config.yaml").write_text(config.replace(str(data_root), "data"))
    shutil.copy(run / "curve.png", records / "curve.png")
    if with_pictures:
        Image.open(run / "predictions.png").convert("RGB").save(records / "predictions.jpg", quality=88)


def parser_of_a_run(description: str) -> argparse.ArgumentParser:
    """The arguments by which a run's weights are named, packed and described."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("name", help="the name to ship under, <network>.<what it knows>")
    parser.add_argument("--data-root", type=Path, required=True, help="the folder of the recipe's data")
    parser.add_argument("--limit", type=float, default=14.9e6, help="bytes of tensors")
    parser.add_argument("--training", required=True, help="how they were trained, for the card")
    parser.add_argument("--licence", required=True, help="the terms on which they may be used, for the card")
    parser.add_argument(
        "--with-pictures", action="store_true", help="keep predictions too, where the data's licences let them be shown"
    )
    return parser


def main() -> None:
    """Pack, measure and write the weights and their records."""
    parser = parser_of_a_run(__doc__)
    parser.add_argument("--config", required=True, help="the recipe, for its validation")
    arguments = parser.parse_args()

    source = arguments.run / "weights.safetensors"
    card, state = read_weights(source)
    before = measure(source, arguments.config, arguments.data_root)
    network = model_entry(card.network).create(card.num_classes)
    packed = pack(state, int(arguments.limit), network)
    target = ROOT / "src" / "segscape" / "weights" / f"{arguments.name}.safetensors"
    card = dataclasses.replace(card, training=arguments.training, licence=arguments.licence)
    write_weights(target, card, packed)
    after = measure(target, arguments.config, arguments.data_root)
    protocol = "; ".join(dict.fromkeys(row["protocol"] for row in after.values()))
    write_weights(target, dataclasses.replace(card, score=scores_of(after), protocol=protocol), packed)

    records = ROOT / "docs" / "weights" / arguments.name
    write_records(arguments.run, records, data_root=arguments.data_root, with_pictures=arguments.with_pictures)
    console = Console(highlight=False)
    console.print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")
    for name, row in after.items():
        console.print(f"{name}: mIoU as trained {before[name]['miou']:.4f}, as shipped {row['miou']:.4f}")


if __name__ == "__main__":
    main()
