"""Export every network in every form, and write the table of docs/export.md from the errors, sizes and times.

python scripts/export_table.py                  every network, an hour on one core
python scripts/export_table.py 'stdc*' 'crm*'   only these; what the table holds of the others stays
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import platform
import tempfile
import time
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segscape.checkpoints.card import FOREGROUND, WeightsCard
from segscape.export.metadata import SUFFIXES
from segscape.export.write import export_network
from segscape.networks import SegmentationNetwork, list_models
from segscape.normalisation import Normalisation
from segscape.registry import model_entry
from segscape.runtime.graphs import Network

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "export.json"
PAGE = ROOT / "docs" / "export.md"
BEGIN = "<!-- From here on written by scripts/export_table.py. -->"
END = "<!-- Up to here written by scripts/export_table.py. -->"

NUM_CLASSES = 19
SIZE = (256, 512)
"""Of the graphs for one size; next larger multiples where a network needs them."""
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")


def random_network(name: str) -> Network:
    """A network with random weights, the same each time, whose activations neither grow nor vanish with its depth.

    Where they grow, rounding does too, unlike in a trained network; ISNet's also decides classes by them.
    """
    torch.manual_seed(0)
    entry = model_entry(name)
    network = entry.create(1 if entry.task == "refinement" else NUM_CLASSES).eval()
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.3, 0.7)
            for value in (module.running_mean, module.bias.data):
                value.normal_(0, 0.1)
    return network


def _card(name: str, network: Network) -> WeightsCard:
    if not isinstance(network, SegmentationNetwork):
        return WeightsCard(name, normalisation=Normalisation(), **FOREGROUND)
    names = tuple(f"class {index}" for index in range(NUM_CLASSES))
    return WeightsCard(name, names, ((0, 0, 0),) * NUM_CLASSES, Normalisation())


def measure(name: str) -> list[dict[str, Any]]:
    """One network's exports, each as a row of the results."""
    network = random_network(name)
    card, fixed = _card(name, network), network.fitting_size(*SIZE)
    outputs = (False, True) if isinstance(network, SegmentationNetwork) else (False,)
    rows = []
    for (suffix, kind), size, labels in product(SUFFIXES.items(), (fixed, None), outputs):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            verification = export_network(network, card, Path(folder) / f"{name}{suffix}", size=size, labels=labels)
            rows.append(
                {
                    "network": name,
                    "format": kind,
                    "size": size,
                    "output": "labels" if labels else "logits",
                    "worst": verification.worst,
                    "tried": list(verification.errors),
                    "bytes": sum(path.stat().st_size for path in Path(folder).iterdir()),
                    "seconds": round(time.perf_counter() - start, 1),
                }
            )
        print(rows[-1], flush=True)
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    """A line for each network: the worst error of each form, then the largest file and the longest time."""
    forms = [(kind, fixed, output) for kind in SUFFIXES.values() for fixed in (True, False) for output in _OUTPUTS]
    heads = [f"{kind} {'fixed' if fixed else 'dynamic'} {output}" for kind, fixed, output in forms]
    lines = [["network", *heads, "MB", "seconds"], ["---"] * (len(forms) + 3)]
    for name in sorted({row["network"] for row in rows}):
        own = [row for row in rows if row["network"] == name]
        worst = {(row["format"], row["size"] is not None, row["output"]): row["worst"] for row in own}
        cells = [f"{worst[form]:.0e}" if form in worst else "" for form in forms]
        largest, longest = max(row["bytes"] for row in own), max(row["seconds"] for row in own)
        lines.append([f"`{name}`", *cells, f"{largest / 1e6:.0f}", f"{longest:.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_OUTPUTS = ("logits", "labels")


def page(current: str, results: dict[str, Any]) -> str:
    """The page with its table written anew.

    Args:
        current: The page as it is, with both marks.
        results: As they stand in the JSON file.
    """
    before, rest = current.split(BEGIN)
    after = rest.split(END)[1]
    made_with = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    text = (
        f"Of logits the largest difference from PyTorch, relative to the largest logit (limit 1e-4); of labels the "
        f"share that differs (limit 1e-3). Random weights, {NUM_CLASSES} classes; fixed is {SIZE[0]}x{SIZE[1]} or the "
        f"next size that fits, dynamic is the worse of two sizes, one with a batch of two. The largest of the files, "
        f"and the longest time to make and check one with {results['threads']} thread(s), beside other work. "
        f"Made with {made_with}."
    )
    return f"{before}{BEGIN}\n\n{text}\n\n{_table(results['rows'])}\n\n{END}{after}"


def main() -> None:
    """Export, and write results and page after every network."""
    parser = argparse.ArgumentParser(description="Export every network in every form.")
    parser.add_argument("patterns", nargs="*", default=["*"])
    patterns = parser.parse_args().patterns
    known = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    for name in [*list_models(), *list_models(task="refinement")]:
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            continue
        known = [row for row in known if row["network"] != name] + measure(name)
        results = {
            "machine": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "versions": {package: version(package) for package in PACKAGES},
            "rows": known,
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        PAGE.write_text(page(PAGE.read_text(), results))


if __name__ == "__main__":
    main()
