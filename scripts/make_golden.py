r"""Run an official network on made-up weights and images, and keep what it gives: the numbers that ours must have.

    python scripts/make_golden.py ~/code/DDRNet/segmentation lib.models.ddrnet_23_slim:get_seg_model \
        --arguments '{"num_classes": 19}' --image image-ddr-a 1x3x128x192 --features layer3 layer4 \
        --output tests/golden/ddrnet/golden_ddrnet_23_slim.npz

The weights and images are those of `tests/golden/fill.py`, which follow from their names and shapes alone, so a test
makes the same ones without the official code. Beside the output lies `keys_<name>.json`, the network's entries and
their shapes. Some official code looks for a GPU or for files of pre-trained weights; stand-ins for such calls go into a
module of your own that imports the network, which is then given in its place.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.golden import fill  # noqa: E402 - the package of tests is found from here only


def parser() -> argparse.ArgumentParser:
    """The arguments of the script."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n\n")[0])
    parser.add_argument("code", type=Path, help="the folder from which the official code imports its modules")
    parser.add_argument("network", metavar="MODULE:CALLABLE", help="what builds the network, such as models.net:Net")
    parser.add_argument("--arguments", type=json.loads, default={}, metavar="JSON", help="its keyword arguments")
    parser.add_argument(
        "--image",
        nargs=2,
        action="append",
        required=True,
        metavar=("NAME", "NxCxHxW"),
        help="an input by the name that it is made from; several for several runs",
    )
    parser.add_argument("--features", nargs="*", default=[], help="submodules whose outputs are kept too")
    parser.add_argument("--output", type=Path, required=True, help="the .npz to write")
    return parser


def main() -> None:
    """Build, fill, run and write."""
    arguments = parser().parse_args()
    if not arguments.code.is_dir():
        raise SystemExit(f"{arguments.code} is no folder; give the one from which the official code is imported.")
    sys.path.insert(0, str(arguments.code))
    module, _, name = arguments.network.partition(":")
    network: nn.Module = getattr(importlib.import_module(module), name)(**arguments.arguments).eval()
    # Counts of batches are no weights.
    shapes = {key: list(value.shape) for key, value in network.state_dict().items() if value.is_floating_point()}
    weights = {key: torch.tensor(value) for key, value in fill.state_dict(shapes).items()}
    network.load_state_dict(weights, strict=False)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for image, size in arguments.image:
        found |= {f"{image}.{key}": value.numpy() for key, value in run(network, image, size, arguments.features)}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.output, **found)
    keys = arguments.output.with_name(f"keys_{arguments.output.stem.removeprefix('golden_')}.json")
    keys.write_text(json.dumps(shapes, indent=1) + "\n")
    for key, value in found.items():
        print(f"{key}: {value.shape}")


@torch.no_grad()
def run(network: nn.Module, image: str, size: str, features: list[str]) -> Iterator[tuple[str, Tensor]]:
    """What the network gives for an image, and what the wanted submodules do, by name."""
    kept: dict[str, Any] = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: kept.__setitem__(f"feature.{name}", output)
        )
        for name in features
    ]
    values = torch.tensor(fill.image(image, tuple(map(int, size.split("x")))))
    output = network(values)
    for hook in hooks:
        hook.remove()
    yield from _flat("output", output)
    for name, feature in kept.items():
        yield from _flat(name, feature)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors within tuples, lists and dictionaries, each with its place in its name."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}", part)
    elif isinstance(value, (tuple, list)):
        for place, part in enumerate(value):
            yield from _flat(f"{name}.{place}", part)


if __name__ == "__main__":
    main()
