"""The settings of `segscape fit`, `validate`, `test` and `predict`, checked before Lightning is loaded.

`settings.json` holds their names, types and defaults, as `scripts/renew_settings.py` reads them off the training code;
a test compares the two, so that no setting comes or goes unnoticed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union

import yaml

from segscape.arguments.base import Parser, add_dry_run, add_reporting
from segscape.checkpoints.shipped import find_weights
from segscape.config_file import IMPORT_KEY, PUBLISHED_KEY, find_config, load_config
from segscape.figures import check_network, figures, networks
from segscape.messages import proposal

COMMANDS = ("fit", "validate", "test", "predict")
SETTINGS_FILE = Path(str(files("segscape"))) / "arguments" / "settings.json"

_DESCRIPTIONS = {
    "fit": "Train a network. A run that was stopped goes on when the same command is given again.",
    "validate": "Measure a network on the validation split.",
    "test": "Measure a network on the test split.",
    "predict": "Write the predicted labels of a split, as its data set has them.",
}
_REPORTING = ("--json", "--quiet", "--verbose", "--dry-run")
_SECTIONS = ("trainer", "model", "data")
_OF_JSONARGPARSE = ("print_config", "config")
_BUILTINS: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "null": type(None)}


class Setting(NamedTuple):
    """A setting.

    Attributes:
        name: Such as `data.root`.
        kinds: The kinds of runs that have it: `segmentation`, `joint` (several data sets at once), `refinement`.
        commands: The commands that have it.
        types: `int`, `float`, `bool`, `str` and `null`, or nothing for objects and lists, which are checked when they
            are made.
        choices: The values that it may have, where they are few.
        default: By default, as text.
        help: In a sentence or two.
    """

    name: str
    kinds: tuple[str, ...]
    commands: tuple[str, ...]
    types: tuple[str, ...]
    choices: tuple[Any, ...]
    default: str
    help: str

    @property
    def is_simple(self) -> bool:
        """Whether its value is a word or a number, and has no settings of its own."""
        return bool(self.types or self.choices)


@cache
def settings() -> tuple[Setting, ...]:
    """Return all settings of all kinds of runs."""
    fields = json.loads(SETTINGS_FILE.read_text())["settings"]
    lists = ("kinds", "commands", "types", "choices")
    return tuple(Setting(**(entry | {name: tuple(entry[name]) for name in lists})) for entry in fields)


def _add_settings(parser: argparse.ArgumentParser, command: str) -> None:
    """Add a command's settings to its parser, for its help, its completion and the reference."""
    parser.description = _DESCRIPTIONS[command]
    # That of argparse would be a page of all settings.
    parser.usage = f"segscape {command} --config NAME|FILE [--SETTING VALUE ...]"
    parser.add_argument(
        "--config", metavar="NAME|FILE", help="a config: a name of `segscape config list`, or a file"
    ).completes = "configs"  # type: ignore[attr-defined]
    groups: dict[str, argparse._ArgumentGroup] = {}
    shown = set()
    for setting in settings():
        if command not in setting.commands or setting.name in shown:
            continue
        shown.add(setting.name)
        room = setting.name.partition(".")[0] if "." in setting.name else "run"
        if room not in groups:
            groups[room] = parser.add_argument_group("the run" if room == "run" else f"settings of {room}")
        text = f"{setting.help} (default: {setting.default})".replace("%", "%%")
        groups[room].add_argument(f"--{setting.name}", metavar=_metavar(setting), help=text)
    add_dry_run(parser, "all settings as they are resolved")
    add_reporting(parser)


def _metavar(setting: Setting) -> str:
    kinds = [kind.upper() for kind in setting.types if kind != "null"]
    return "|".join(dict.fromkeys([*kinds, *map(str, setting.choices)])) or "VALUE"


add_fit, add_validate, add_test, add_predict = (partial(_add_settings, command=command) for command in COMMANDS)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse the words of a training command.

    Returns:
        The arguments: `command`; `settings`, the words with each config merged and written out; `folders`, those of the
        configs; `imports`, the modules that they import; `given`, each setting's value; and what is to be printed.

    Raises:
        SystemExit: A setting does not exist, or its value is of the wrong type, which was said (2).
        FileNotFoundError: There is no such config.
        ValueError: A config cannot be read, or there is no such network.
    """
    command, *rest = words
    chosen = {flag[2:].replace("-", "_"): flag in rest for flag in _REPORTING}
    merged, folders, imports = _with_merged_configs([word for word in rest if word not in _REPORTING])
    if chosen["dry_run"]:
        merged.append("--print_config")
    arguments = argparse.Namespace(
        command=command, settings=[command, *merged], folders=folders, imports=imports, **chosen
    )
    given = _given(merged)
    name = given.get("model.name")
    # First of all, as it decides which settings there are; imported code may register a network.
    if isinstance(name, str) and not imports:
        check_network(name)
    try:
        _check_settings(command, given)
    except ValueError as error:
        Parser(prog=f"segscape {command}").error(str(error))
    arguments.given = given
    return arguments


def kind_of(given: Mapping[str, Any]) -> Literal["segmentation", "joint", "refinement"]:
    """Return the kind of a run by its settings."""
    task = networks().get(str(given.get("model.name")), {}).get("task")
    if task == "refinement":
        return "refinement"
    return "joint" if any(name == "data.sets" or name.startswith("data.sets.") for name in given) else "segmentation"


def check(arguments: argparse.Namespace) -> None:
    """Refuse a data set or weights that do not exist.

    Raises:
        FileNotFoundError: There are no such weights, or no such folder of data.
        ValueError: The data set is unknown.
    """
    given = arguments.given
    dataset, root, weights = (given.get(setting) for setting in ("data.dataset", "data.root", "model.weights"))
    if isinstance(dataset, str) and dataset not in figures()["datasets"]:
        names = figures()["datasets"]
        hint = proposal(dataset, names, f"the names are {', '.join(names)}.")
        raise ValueError(f"There is no data set {dataset!r}; {hint}")
    if isinstance(root, str) and not Path(root).is_dir():
        raise FileNotFoundError(f"There is no folder {root}; name that of the data set by --data.root.")
    if isinstance(weights, str):
        find_weights(weights)


def _with_merged_configs(words: Sequence[str]) -> tuple[list[str], list[Path], list[str]]:
    """Replace each `--config NAME` by the settings that it stands for, its bases merged.

    Returns:
        The words, the folders of the configs that are files of the user's, and the modules that they import.
    """
    expanded: list[str] = []
    folders: list[Path] = []
    imports: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word in ("--config", "-c"):
            name = next(waiting, None)
            if name is None:
                raise ValueError("--config takes a name or a file; `segscape config list` lists the names.")
        elif word.startswith("--config="):
            name = word.removeprefix("--config=")
        else:
            expanded.append(word)
            continue
        path = find_config(name)
        config = load_config(path)
        config.pop(PUBLISHED_KEY, None)
        for section in _SECTIONS:
            if not isinstance(config.get(section, {}), Mapping):
                raise ValueError(f"{path}: `{section}` is a mapping of settings, not {config[section]!r}.")
        imported = config.pop(IMPORT_KEY, [])
        imported = [imported] if isinstance(imported, str) else imported
        if not isinstance(imported, list) or not all(isinstance(module, str) for module in imported):
            raise ValueError(f"{path}: `{IMPORT_KEY}` must be the name of a module, or a list of them.")
        imports += imported
        folders.append(path.parent)
        expanded += ["--config", yaml.safe_dump(config, sort_keys=False)]
    return expanded, folders, imports


def _given(words: Sequence[str]) -> dict[str, Any]:
    """Return the settings that merged configs and the command line give, the later in place of the earlier ones."""
    given: dict[str, Any] = {}
    waiting = iter(words)
    for word in waiting:
        if word == "--config":
            config = yaml.safe_load(next(waiting)) or {}
            given |= dict(_flat(config))
        elif word.startswith("--"):
            name, has_value, value = word[2:].partition("=")
            if name.partition("=")[0] in _OF_JSONARGPARSE or name == "help":
                continue
            text = value if has_value else next(waiting, "")
            given[name.removesuffix("+")] = _value(text)
        else:
            raise ValueError(f"{word} is no setting; settings are written as --data.root FOLDER.")
    return given


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting of a config by its whole name, those inside of objects too."""
    for key, value in config.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _check_settings(command: str, given: Mapping[str, Any]) -> None:
    """Refuse a setting that does not exist, or whose value is of another type.

    Raises:
        ValueError: The message names it.
    """
    kind = kind_of(given)
    known = {setting.name: setting for setting in settings() if command in setting.commands and kind in setting.kinds}
    for name, value in given.items():
        if name in _OF_JSONARGPARSE or name.endswith(".help") or _is_newer(name):
            continue
        if any(whole.startswith(f"{name}.") for whole in known):
            # On the command line a section may be given as a file.
            if isinstance(value, str):
                continue
            raise ValueError(f"--{name} takes a file of its settings, not {value!r}.")
        inside = next((whole for whole in known if name.startswith(f"{whole}.") and not known[whole].is_simple), None)
        if name in known:
            _check_value(known[name], value)
        elif inside is None:
            nowhere = f"`segscape {command} --help` lists them."
            hint = proposal(f"--{name}", (f"--{whole}" for whole in known), nowhere, most=1)
            raise ValueError(f"there is no setting --{name}; {hint}")


@cache
def _is_frozen_lightning() -> bool:
    try:
        return version("lightning") == json.loads(SETTINGS_FILE.read_text())["lightning"]
    except PackageNotFoundError:
        return True


def _is_newer(name: str) -> bool:
    """Return whether a setting may be one of another version of Lightning than that of `settings.json`."""
    return name.startswith("trainer.") and not _is_frozen_lightning()


def _check_value(setting: Setting, value: Any) -> None:
    """Refuse a value that the setting's type cannot take.

    Raises:
        ValueError: The message names the setting.
    """
    if not setting.is_simple:
        return
    from jsonargparse import ArgumentError, ArgumentParser

    types = [_BUILTINS[name] for name in setting.types]
    if setting.choices:
        types.append(Literal[setting.choices])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=Union[tuple(types)])  # noqa: UP007
    try:
        parser.parse_object({"value": value})
    except ArgumentError:
        wanted = " or ".join([*setting.types, *map(str, setting.choices)])
        raise ValueError(f"--{setting.name} takes {wanted}, not {value!r}.") from None
