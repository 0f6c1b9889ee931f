"""Write the pages of docs/reference/ from the command line's arguments, the configs that ship and the public names.

python scripts/docs_reference.py

Run it after a command, an argument, a setting, a config or a public name came, went or changed; a test compares the
pages. They are written into the repository, so that they can be read without building the site.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import segscape
from segscape.arguments import whole_parser
from segscape.arguments.training import COMMANDS as TRAINING
from segscape.arguments.training import Setting, settings
from segscape.config_file import BASE_KEY, IMPORT_KEY, PUBLISHED_KEY, find_config, load_config, shipped_configs

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
NOTE = "<!-- Written by scripts/docs_reference.py from the code; changes belong there. -->"

API = {
    "Segment": (
        "A `Segmenter` holds a network and gives a `Segmentation` for each image. The image is in memory as a whole.",
        ("Segmenter", "Segmentation"),
    ),
    "Scenes": (
        "A `Scene` is an image of any size that is segmented from file to file, in bounded memory: "
        "[Large images](../large-images.md) says how.",
        ("Scene", "SceneFiles", "SceneSettings"),
    ),
    "Refine": (
        "A `Refiner` makes a coarse mask follow the edges of its image.",
        ("Refiner", "Refinement", "refine_classes"),
    ),
    "Cut out": (
        "A `Cutter` finds the main object of a photograph and cuts it out: [Cut-outs](../cutout.md).",
        ("Cutter", "CutOut"),
    ),
    "Networks and weights": (
        "Networks by name, the weights that ship, and checkpoints of the networks' authors.",
        ("list_models", "list_weights", "create_model", "convert_checkpoint"),
    ),
}
"""The public names by what they are for: a heading, what is said of the group, and its names."""

SYSTEMS = {
    "bisestdc": "BiSeSTDC",
    "crm": "CRM",
    "dabnet": "DABNet",
    "isdnet": "ISDNet",
    "isnet": "ISNet",
    "scapenet": "ScapeNet",
    "stdc": "STDC-Seg",
}
"""What a config's network is called, by the letters that its name begins with."""

_DEFAULT = re.compile(r"\s*\(default(?:: |, )((?:[^()]|\([^()]*\))*)\)")
_MOST_CHARACTERS = 120


def command_line() -> str:
    """Return the page of all commands and their arguments."""
    parser = whole_parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    helps = {action.dest: action.help or "" for action in commands._choices_actions}
    own = [action for action in parser._actions if action.option_strings]
    parts = [
        NOTE,
        "# All commands and arguments",
        _wrapped(
            "Every command, as `segscape COMMAND --help` tells it. Manners that all commands share, such as exit "
            "statuses, JSON, lists of files and completion, are in [The command line](../command-line.md)."
        ),
        _table(
            ["command", "what it does"],
            [[f"[`segscape {name}`](#segscape-{name})", _text(text)] for name, text in helps.items()],
        ),
        "Arguments of `segscape` itself:",
        _table(["argument", "what it does"], [[_flags(action), _text(action.help or "")] for action in own]),
    ]
    for name, inner in commands.choices.items():
        parts += _command(f"segscape {name}", inner, helps[name], is_training=name in TRAINING)
    return _page(parts)


def _command(title: str, parser: argparse.ArgumentParser, help_: str, *, is_training: bool = False) -> Iterator[str]:
    yield f"## {title}" if title.count(" ") == 1 else f"### {title}"
    yield _wrapped(_text(parser.description or f"{help_[:1].upper()}{help_[1:]}."))
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if inner:
        helps = {action.dest: action.help or "" for action in inner[0]._choices_actions}
        for name, below in inner[0].choices.items():
            yield from _command(f"{title} {name}", below, helps[name])
        return
    groups = [(group.title or "", group._group_actions) for group in parser._action_groups]
    if is_training and title != "segscape fit":
        known = {setting.name for setting in settings() if "fit" in setting.commands}
        groups = [(name, [each for each in actions if not _is_setting(each, known)]) for name, actions in groups]
        yield "It has the settings of [`segscape fit`](#segscape-fit), and:"
    for name, actions in groups:
        shown = [action for action in actions if action.help != argparse.SUPPRESS and action.dest != "help"]
        if not shown:
            continue
        names = {"positional arguments": "Arguments", "options": "Options"}
        yield f"**{names.get(name, f'{name[:1].upper()}{name[1:]}')}**"
        rows = [[_flags(action), _values(action), *_default_and_help(action, parser)] for action in shown]
        yield _table(["argument", "values", "default", "what it does"], rows)


def _is_setting(action: argparse.Action, known: set[str]) -> bool:
    return any(flag.removeprefix("--") in known for flag in action.option_strings)


def _flags(action: argparse.Action) -> str:
    if action.option_strings:
        return ", ".join(f"`{flag}`" for flag in action.option_strings)
    return " or ".join(f"`{word}`" for word in str(action.metavar or action.dest).upper().split("|"))


def _values(action: argparse.Action) -> str:
    """Return what may stand behind an argument."""
    if action.nargs == 0:
        return ""
    several = {"+": ", one or more", "*": ", any number", "?": ", may be left out"}.get(str(action.nargs), "")
    if action.choices is not None:
        return " ".join(f"`{choice}`" for choice in action.choices) + several
    if action.metavar is None:
        return several.removeprefix(", ") if not action.option_strings else f"`{action.dest.upper()}`{several}"
    metavar = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    if not action.option_strings:
        return several.removeprefix(", ")
    return " or ".join(f"`{word}`" for word in metavar.split("|")) + several


def _default_and_help(action: argparse.Action, parser: argparse.ArgumentParser) -> tuple[str, str]:
    """Return an argument's default and its help, from which the default is taken out where it stands there."""
    text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    found = _DEFAULT.search(text)
    if found:
        default = found[1]
        text = (text[: found.start()] + text[found.end() :]).strip()
    else:
        value = action.default
        values = value if isinstance(value, (list, tuple)) else [value]
        is_none = value in (None, False, argparse.SUPPRESS) or action.nargs == 0
        default = "" if is_none else " ".join(map(str, values))
    if action.choices is not None and text == ", ".join(map(str, action.choices)):
        text = ""
    if re.fullmatch(r"\([\d, ]+\)", default):
        default = default.strip("()").replace(",", "")
    if action.required and action.option_strings:
        default = "required"
    exclusive = [group._group_actions for group in parser._mutually_exclusive_groups if action in group._group_actions]
    others = [_flags(other) for group in exclusive for other in group if other is not action]
    if others:
        text = "; ".join(filter(None, [text, f"not together with {', '.join(others)}"]))
    return _text(default), _text(text)


def configs() -> str:
    """Return the page of the configs that ship, and of the keys that a config may have."""
    parts = [
        NOTE,
        "# Configs",
        _wrapped(
            "A config is a YAML file of settings for `segscape fit`, `validate`, `test` and `predict`. `segscape "
            "config list` lists those that ship, `segscape config show NAME` prints what one resolves to. How to build "
            "on one is in [The command line](../command-line.md#configs); optimiser, losses, protocol and our own "
            "results of each are in [Recipes](../recipes.md)."
        ),
        "## Configs that ship",
        _wrapped(
            "The published result is what the authors report, not a result of ours; none was reproduced, as the data "
            "sets were not available in full ([Recipes](../recipes.md)). A config's name begins with that of its "
            "network; `finetune` takes any, by `--model.name`. Crops are height x width in pixels."
        ),
    ]
    by_system: dict[str, list[list[str]]] = {}
    for name in shipped_configs():
        config = load_config(find_config(name))
        prefix = re.match("[a-z]*", name)
        system = "Your own images" if "/" not in name else SYSTEMS.get(prefix[0] if prefix else "", name)
        by_system.setdefault(system, []).append(_config_row(name, config))
    for system, rows in sorted(by_system.items(), key=lambda item: item[0].lower()):
        columns = ["config", "data set", "length", "crop", "published result"]
        sources = list(dict.fromkeys(row.pop() for row in rows))
        parts.append(f"### {system}")
        if any(sources):
            parts.append(_wrapped(f"Source: {'; '.join(filter(None, sources))}."))
        parts.append(_table(*_without_empty(columns, rows)))
    parts += [
        "## Keys",
        _wrapped(
            "Every key can also be given on the command line, its parts joined by points: `--model.optimiser.lr "
            "0.005`. A key that does not exist, or a value of another type, is refused before anything is loaded. "
            "Three keys belong to the file itself:"
        ),
        _table(
            ["key", "values", "what it does"],
            [
                [f"`{BASE_KEY}`", "a path or a name, or a list", "the configs that this one builds on, in their order"],
                [
                    f"`{IMPORT_KEY}`",
                    "a module, or a list",
                    "modules beside the config that a run imports first; they may register networks",
                ],
                [
                    f"`{PUBLISHED_KEY}`",
                    "`score`, `source`, `processes`",
                    "what the authors report and on how many processes they trained; no setting of the run",
                ],
            ],
        ),
        _wrapped(
            "The rest are settings. The column *runs* says which runs have one: `segmentation` on one data set, "
            "`joint` on several at once (with `data.sets`), `refinement` of masks. A key of *several forms* takes a "
            "word, a number, a list, a mapping, or an object that is given by `class_path` and `init_args`; what it is "
            "given is checked when the run is made. `segscape config show NAME` shows the forms in use."
        ),
    ]
    rooms: dict[str, list[Setting]] = {}
    for setting in settings():
        room = setting.name.partition(".")[0] if "." in setting.name else "run"
        rooms.setdefault(room, []).append(setting)
    titles = {
        "run": "The run itself",
        "trainer": "`trainer`: the loop, which is Lightning's",
        "model": "`model`: network, start, losses, optimiser, protocols",
        "data": "`data`: data sets, crops, batches",
    }
    for room in titles:
        rows = [
            [f"`{each.name}`", _setting_values(each), f"`{each.default}`", _runs(each), _text(each.help)]
            for each in rooms.pop(room)
        ]
        parts += [f"### {titles[room]}", _table(["key", "values", "default", "runs", "what it does"], rows)]
    assert not rooms, f"give {', '.join(rooms)} a title"
    return _page(parts)


def _without_empty(columns: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    kept = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    return [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]


def _config_row(name: str, config: dict[str, Any]) -> list[str]:
    trainer, data = config.get("trainer", {}), config["data"]
    augmentation = data.get("augmentation", {})
    crop = augmentation.get("init_args", augmentation).get("crop")
    published = config.get(PUBLISHED_KEY, {})
    assert config["model"].get("name") in (None, name.partition("/")[0]), "a config's name begins with its network"
    steps, epochs = trainer.get("max_steps"), trainer.get("max_epochs")
    return [
        f"`{name}`",
        _data(data),
        f"{steps:,} steps" if steps else f"{epochs} epochs" if epochs else "",
        " x ".join(map(str, crop)) if crop else "",
        _text(published.get("score", "")),
        _text(published.get("source", "")),
    ]


def _data(data: dict[str, Any]) -> str:
    if "sets" in data:
        names = [each.get("root", each["dataset"]) for each in data["sets"]]
    elif data.get("roots"):
        names = list(data["roots"])
    else:
        names = [data.get("dataset") or Path(str(data.get("root", ""))).name]
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def _setting_values(setting: Setting) -> str:
    if not setting.is_simple:
        return "several forms"
    names = [f"`{choice}`" for choice in setting.choices] + [kind for kind in setting.types if kind != "null"]
    return " or ".join([*names, "null"] if "null" in setting.types else names)


def _runs(setting: Setting) -> str:
    kinds = "all" if len(setting.kinds) == 3 else ", ".join(setting.kinds)
    commands = "" if len(setting.commands) == len(TRAINING) else f"; `{'`, `'.join(setting.commands)}`"
    return kinds + commands


def api() -> str:
    """Return the page of the public names, which mkdocstrings fills in."""
    parts = [
        NOTE,
        "# Python",
        _wrapped(
            "What `import segscape` offers. Importing it loads no PyTorch; each name is imported when it is first "
            "used. Names that are not on this page may change with any version."
        ),
    ]
    for title, (text, names) in API.items():
        parts += [f"## {title}", _wrapped(text)]
        parts += [
            f"::: segscape.{name}\n    options:\n      heading_level: 3\n      show_root_heading: true\n"
            "      show_root_full_path: true\n      merge_init_into_class: true"
            for name in names
        ]
    listed = [name for _, names in API.values() for name in names]
    assert sorted(listed) == sorted(segscape.__all__), "give every public name its place in API"
    return _page(parts)


def _table(columns: list[str], rows: Iterable[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines).replace("|  |", "| |")


def _text(text: str) -> str:
    """Return plain text as Markdown: what stands between backticks stays as it is."""
    parts = re.split("(`[^`]*`)", " ".join(text.split()))
    for index in range(0, len(parts), 2):
        escaped = parts[index].replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
        parts[index] = re.sub(r"([*\[\]])", r"\\\1", escaped)
    return "".join(parts)


def _wrapped(text: str) -> str:
    """Break a paragraph into lines, not within code."""
    words = re.findall(r"(?:`[^`]*`|\S)+", text)
    lines = [""]
    for word in words:
        joined = f"{lines[-1]} {word}".strip()
        if len(joined) > _MOST_CHARACTERS:
            lines.append(word)
        else:
            lines[-1] = joined
    return "\n".join(lines)


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"


PAGES = {"command-line.md": command_line, "configs.md": configs, "api.md": api}
"""What writes each page."""


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, write in PAGES.items():
        (FOLDER / name).write_text(write())
        print(f"written: {FOLDER / name}")


if __name__ == "__main__":
    main()
