"""Write the tables of `docs/networks/*.md` between their markers; what is written by hand stays.

python scripts/network_pages.py

A table stands between `<!-- Begin of NAME, written by scripts/network_pages.py -->` and `<!-- End of NAME -->`, NAME
being one of `TABLES`. The numbers come from `src/segscape/figures.json`, the configs and `benchmarks/results/`.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segscape.checkpoints.convert import FORMATS
from segscape.config_file import PUBLISHED_KEY, find_config, load_config, shipped_configs
from segscape.figures import figures, networks
from segscape.registry import model_entry

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "networks"
RESULTS = ROOT / "benchmarks" / "results"

_COSTS = ("parameters", "GMAC", "GMAC of the authors' code", "stride")
_WAYS = ("plain", "lean", "torch", "winograd", "openvino fp32", "openvino int8")
_COMPARED = ("camvid", "dronedeploy")


@dataclass(frozen=True)
class System:
    """What a page is about.

    Attributes:
        title: Its name.
        modules: The modules of `segscape.networks` whose networks the page describes.
    """

    title: str
    modules: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The names of its networks, but those that classify whole images."""
        found = (name for name, kept in networks().items() if kept["task"] != "classification")
        # Numbers in names by their size: p8 before p16.
        return sorted(
            (name for name in found if _module(name) in self.modules),
            key=lambda name: [part.zfill(4) if part.isdigit() else part for part in re.split(r"(\d+)", name)],
        )

    @property
    def configs(self) -> list[str]:
        """The names of its configs."""
        return [name for name in shipped_configs() if name.partition("/")[0] in self.names]


SYSTEMS = {
    "isdnet": System("ISDNet", ("isdnet",)),
    "isnet": System("ISNet", ("isnet",)),
    "crm": System("CRM", ("crm",)),
    "bisestdc": System("BiSeSTDC and STDC-Seg", ("stdc", "bisestdc")),
    "dabnet": System("DABNet", ("dabnet",)),
    "scapenet": System("ScapeNet", ("scapenet",)),
}


def _module(name: str) -> str:
    return model_entry(name).build.__module__.rpartition(".")[2]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    # Columns of numbers are set to the right.
    rows = [list(row) for row in rows]
    ruler = [
        "---:" if all(re.fullmatch(r"[\d.]*( M)?", row[place]) for row in rows) else "---" for place in range(len(head))
    ]
    lines = [head, ruler, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _costs(name: str) -> list[str]:
    """Parameters, multiply-accumulates, the authors' multiply-accumulates, stride."""
    kept = networks()[name]
    million = f"{kept['parameters'] / 1e6:.2f} M"
    if "macs" not in kept:
        return [million, "", "", ""]
    authors = f"{kept['authors_macs'] / 1e9:.2f}" if name in FORMATS else ""
    return [million, f"{kept['macs'] / 1e9:.2f}", authors, str(kept["stride"])]


def _summary(name: str) -> str:
    return (model_entry(name).build.__doc__ or "").partition("\n")[0].rstrip(".").replace("`", "")


def every_network(_: System) -> str:
    """The table of all networks."""
    rows = [[f"[`{name}`]({page}.md)", *_costs(name)] for page, system in SYSTEMS.items() for name in system.names]
    return _table(("network", *_COSTS), rows)


def names(system: System) -> str:
    """The networks of a system: what each is, and what it costs."""
    told = [f"- `{name}`: {_summary(name)}{_origins(name)}." for name in system.names]
    rows = [[f"`{name}`", *_costs(name)] for name in system.names]
    # What networks that refine masks cost depends on the stages; our own have no authors' code beside them.
    head = ("network", *_COSTS)
    filled = [place for place in range(len(head)) if any(row[place] for row in rows)]
    table = _table([head[place] for place in filled], ([row[place] for place in filled] for row in rows))
    return "\n".join(_wrapped(line) for line in told) + "\n\n" + table


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _origins(name: str) -> str:
    """The code bases whose checkpoints it reads, as the end of a sentence."""
    origins = [known.origin for known in FORMATS.get(name, ())]
    return f"; reads checkpoints of {' and '.join(origins)}" if origins else ""


def configs(system: System) -> str:
    """The configs of a system."""
    rows, sources = [], []
    for name in system.configs:
        config = load_config(find_config(name))
        published = config.get(PUBLISHED_KEY, {})
        rows.append([f"`{name}`", _data_sets(config["data"]), published.get("score", "")])
        sources.append(published.get("source", ""))
    told = sorted({source for source in sources if source})
    if len(told) == 1:
        return _table(("config", "data sets", "published score"), rows) + f"\n\nSource: {told[0]}."
    head = ("config", "data sets", "published score", "published in") if told else ("config", "data sets")
    return _table(head, ([*row, source][: len(head)] for row, source in zip(rows, sources, strict=True)))


def _data_sets(data: dict[str, Any]) -> str:
    several = [entry["root"].rpartition("/")[2] for entry in data.get("sets", ())]
    folders = [Path(root).name for root in data.get("roots") or ([data["root"]] if "root" in data else [])]
    found = several or ([data["dataset"]] if "dataset" in data else folders)
    return ", ".join(dict.fromkeys(found)) or "pairs of image and mask"


def speed(system: System) -> str:
    """What `benchmarks/side_by_side.py` measured of a system, from file to file."""
    result = json.loads((RESULTS / "side_by_side.json").read_text())
    kept = {(row["network"], *row["size"], row["pipeline"]): row["total_ms"] for row in result["rows"]}
    places = dict.fromkeys(key[:3] for key in kept if key[0] in system.names)
    rows = []
    for name, height, width in places:
        cells = [kept.get((name, height, width, way)) for way in _WAYS]
        cells = ["" if cell is None else f"{cell:.0f}" for cell in cells]
        rows.append([f"`{name}`", f"{height} x {width}", *cells])
    machine = result["machine"]
    where = f"{machine['processor']}, {machine['threads']} threads, torch {result['versions']['torch']}"
    return f"Milliseconds from PNG to label PNG, medians ({where}):\n\n" + _table(("network", "size", *_WAYS), rows)


def trained(system: System) -> str:
    """What `scripts/compare_networks.py` measured of a system."""
    rows = []
    for dataset in _COMPARED:
        result = json.loads((RESULTS / f"comparison_{dataset}.json").read_text())
        for row in sorted(result["rows"], key=lambda row: -row["miou"]):
            if row["network"] in system.names:
                miou, accuracy = f"{row['miou']:.3f}", f"{row['pixel_accuracy']:.3f}"
                seconds = f"{60 * result['minutes']:.0f}"
                rows.append([f"`{row['network']}`", dataset, seconds, str(row["steps"]), miou, accuracy])
    return _table(("network", "data set", "seconds of training", "steps", "val mIoU", "pixel accuracy"), rows)


def shipped(system: System) -> str:
    """The weights that ship, with the scores on their cards."""
    rows = []
    for name, card in figures()["weights"].items():
        if card["network"] in system.names:
            scores = ", ".join(f"{score} {value:.4f}" for score, value in card["score"].items())
            rows.append([f"`{name}`", scores, card["protocol"], card["licence"]])
    return _table(("weights", "scores on the card", "measured on and how", "licence"), rows)


TABLES: dict[str, Callable[[System], str]] = {
    "all networks": every_network,
    "names": names,
    "configs": configs,
    "speed": speed,
    "training from scratch": trained,
    "weights": shipped,
}


def page(text: str, system: System | None) -> str:
    """Return a page with its tables written anew.

    Args:
        text: The page.
        system: What it is about; None for the page of all networks.
    """
    for name, write in TABLES.items():
        begin, end = f"<!-- Begin of {name}, written by scripts/network_pages.py -->", f"<!-- End of {name} -->"
        if begin in text:
            before, _, rest = text.partition(begin)
            table = write(system or System("", ()))
            text = f"{before}{begin}\n\n{table}\n\n{end}{rest.partition(end)[2]}"
    return text


def pages() -> dict[Path, System | None]:
    """Return the pages with what each is about."""
    return {FOLDER / "index.md": None} | {FOLDER / f"{name}.md": system for name, system in SYSTEMS.items()}


def main() -> None:
    """Write every page anew."""
    for path, system in pages().items():
        path.write_text(page(path.read_text(), system))
        print(f"written: {path}")


if __name__ == "__main__":
    main()
