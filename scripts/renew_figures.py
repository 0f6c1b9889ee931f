"""Write `src/segscape/figures.json`: what is known of networks, weights and data sets without loading them.

Run it after a network, weights or a data set came, went or changed.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from segscape.arguments.models import NUM_CLASSES, SIZE
from segscape.benchmark.cost import network_cost, parameter_count
from segscape.checkpoints.shipped import find_weights, list_weights, read_card
from segscape.data.datasets import DATASETS
from segscape.data.prepare import PAIR_PREPARATIONS
from segscape.figures import FIGURES_FILE
from segscape.networks import list_models
from segscape.registry import model_entry


def collect() -> dict[str, Any]:
    """Return what the file holds: costs of networks at `SIZE` with `NUM_CLASSES` classes, cards, names."""
    networks: dict[str, dict[str, Any]] = {}
    for name in list_models():
        cost = network_cost(name, num_classes=NUM_CLASSES, size=SIZE)
        networks[name] = {"task": "segmentation", **vars(cost)}
    for name in list_models(task="refinement"):
        with torch.device("meta"):
            networks[name] = {"task": "refinement", "parameters": parameter_count(model_entry(name).build())}
    for name in list_models(task="classification"):
        networks[name] = {"task": "classification"}
    return {
        "networks": networks,
        "weights": {name: json.loads(read_card(find_weights(name)).to_json()) for name in list_weights()},
        "datasets": sorted(DATASETS),
        "pair_preparations": sorted(PAIR_PREPARATIONS),
    }


def main() -> None:
    """Write the file."""
    FIGURES_FILE.write_text(json.dumps(collect(), indent=1) + "\n")
    print(f"written: {FIGURES_FILE}")


if __name__ == "__main__":
    main()
