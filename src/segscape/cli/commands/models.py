"""`segscape models`: the list of networks and weights."""

from __future__ import annotations

import argparse
import fnmatch
from typing import Any

from rich.table import Column, Table

from segscape.arguments.models import NUM_CLASSES, SIZE
from segscape.cli.output import Output
from segscape.figures import figures, networks


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape models`."""
    output = Output(arguments)
    chosen = {name: kept for name, kept in networks().items() if fnmatch.fnmatchcase(name, arguments.pattern)}
    of_task = {
        task: sorted(name for name, kept in chosen.items() if kept["task"] == task)
        for task in ("segmentation", "refinement")
    }
    if not any(of_task.values()):
        raise ValueError(f"No network matches {arguments.pattern}; `segscape models` lists them all.")
    size, num_classes = tuple(arguments.size), arguments.num_classes
    costs = {name: chosen[name] for name in of_task["segmentation"]}
    if (size, num_classes) != (SIZE, NUM_CLASSES):
        costs = _counted(of_task["segmentation"], size, num_classes)
    if of_task["segmentation"]:
        output.console.print(_networks_table(costs, size, num_classes))
    for name, cost in costs.items():
        macs = {"macs": cost["macs"], "authors_macs": cost["authors_macs"]}
        fields = {"task": "segmentation", "parameters": cost["parameters"], **macs, "stride": cost["stride"]}
        output.record("network", name=name, **fields, size=size, num_classes=num_classes)
    refiners = Table("network", "parameters", title="networks that refine masks")
    for name in of_task["refinement"]:
        refiners.add_row(name, _millions(chosen[name]["parameters"]))
        output.record("network", name=name, task="refinement", parameters=chosen[name]["parameters"])
    if refiners.row_count:
        output.console.print(refiners)
    output.console.print(_weights_table())
    for name, card in figures()["weights"].items():
        output.record("weights", name=name, card=card)
    return 0


def _counted(names: list[str], size: tuple[int, ...], num_classes: int) -> dict[str, dict[str, Any]]:
    """Count the costs of networks at another size or with other classes than those that are kept."""
    # PyTorch, which takes a second to load and is not needed for what is kept.
    from segscape.benchmark.cost import network_cost

    height, width = size
    return {name: vars(network_cost(name, num_classes=num_classes, size=(height, width))) for name in names}


def _networks_table(costs: dict[str, dict[str, Any]], size: tuple[int, ...], num_classes: int) -> Table:
    heads = ("network", "parameters", "GMAC", "GMAC of the authors' code", "stride")
    table = Table(*heads, title="networks ({} classes, {}x{})".format(num_classes, *size))
    for name, cost in costs.items():
        macs = (f"{cost[key] / 1e9:.2f}" for key in ("macs", "authors_macs"))
        table.add_row(name, _millions(cost["parameters"]), *macs, str(cost["stride"]))
    return table


def _weights_table() -> Table:
    table = Table(Column("weights", no_wrap=True), "classes, scores, protocol and licence", title="weights")
    for name, card in figures()["weights"].items():
        scores = ", ".join(f"{key} {value:.4f}" for key, value in card["score"].items())
        classes = "1 class" if card["num_classes"] == 1 else f"{card['num_classes']} classes"
        table.add_row(name, f"{classes}: {scores}\n{card['protocol']}\n{card['licence']}", end_section=True)
    return table


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
