"""Write the GPU tables of docs/benchmark.md from `benchmarks/results/gpu_*.json`.

python benchmarks/gpu_table.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpu import OFFICIAL

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "benchmark.md"
BEGIN, END = (f"<!-- {word} of what benchmarks/gpu_table.py writes -->" for word in ("Begin", "End"))
HEADS = (
    *("network", "size", "pipeline", "network ms", "p90", "images/s", "times official", "of the roofline"),
    *("labels: images/s", "times official", "logits off by", "labels equal", "MiB"),
)


def table(result: dict[str, Any]) -> str:
    """The results of one card as Markdown."""
    card, ceilings = result["card"], result["ceilings"]
    flops = ", ".join(f"{name} {value / 1e12:.1f}" for name, value in ceilings["flops"].items())
    made_with = ", ".join(f"{name} {card[name]}" for name in ("driver", "cuda", "cudnn", "torch", "triton"))
    lines = [
        f"**{card['name']}**, {made_with}. Ceilings: {flops} TFLOP/s; {ceilings['bytes'] / 1e12:.2f} TB/s.",
        "",
        f"| {' | '.join(HEADS)} |",
        "|---" * len(HEADS) + "|",
    ]
    official = {(row["name"], *row["size"]): row for row in result["rows"] if row["pipeline"] == OFFICIAL}
    lines += [f"| {' | '.join(cells(row, official.get((row['name'], *row['size']), {})))} |" for row in result["rows"]]
    if result["left_out"]:
        names = ", ".join("{name} {size[0]}x{size[1]} {pipeline}".format(**row) for row in result["left_out"])
        lines += ["", f"Time was too short for: {names}."]
    return "\n".join(lines)


def cells(row: dict[str, Any], official: dict[str, Any]) -> list[str]:
    """A row of the table, beside the official row of the same network and size."""
    start = [f"`{row['name']}`", "{}x{}".format(*row["size"]), row["pipeline"]]
    if "error" in row:
        return [*start, row["error"], *[""] * (len(HEADS) - 4)]
    network = row.get("network")
    latency = [f"{network['median_ms']:.3f}", f"{network['p90_ms']:.3f}"] if network else ["", ""]
    speeds = [[rate(row, figure), times(row, official, figure)] for figure in ("network", "labels")]
    share = f"{row['share_of_roofline']:.0%} ({row['bound_by']})"
    error, agree = row.get("logits_error"), row.get("labels_agree")
    return [
        *start,
        *latency,
        *speeds[0],
        share,
        *speeds[1],
        "" if error is None else f"{error:.1e}",
        "" if agree is None else f"{agree:.2%}",
        "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}",
    ]


def rate(row: dict[str, Any], figure: str) -> str:
    """Images a second."""
    return f"{row[figure]['per_second']:.1f}" if figure in row else ""


def times(row: dict[str, Any], official: dict[str, Any], figure: str) -> str:
    """How many times as many images a second as in the official pipeline."""
    if figure not in row or figure not in official:
        return ""
    return f"{row[figure]['per_second'] / official[figure]['per_second']:.2f}"


def main() -> None:
    """Put the tables into the page in place of the old ones."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("gpu_*.json"))]
    text = "\n\n".join(map(table, results)) if results else "**Not measured: no GPU was available.**"
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
