"""Write the tables of THIRD_PARTY_LICENCES.md from what installed packages say of themselves; the rest there stays.

    python scripts/third_party.py

Run it where `segscape[dev]` is installed, on Linux x86-64, since what packages need in turn differs by system.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageMetadata, PackageNotFoundError, files, metadata, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "THIRD_PARTY_LICENCES.md"
BEGIN = "<!-- From here on written by scripts/third_party.py. -->"
END = "<!-- Up to here written by scripts/third_party.py. -->"
NOT_STATED = "not stated"

_HEAD = ["| package | licence | home page |", "|---|---|---|"]
_LONGEST_LICENCE = 80
_TEXTS = {"Apache License": "Apache-2.0", "MIT License": "MIT"}
"""How the text of a licence begins, and what the licence is called."""
_HOME_LABELS = ("homepage", "home", "repository", "source", "source code", "github")
"""How packages call the address that is their home, the best first."""


def direct_requirements() -> dict[str, list[Requirement]]:
    """Return what pyproject.toml asks for: under an empty name what is always needed, and what each extra adds.

    The extras `dev` and `docs`, which users do not install, are left out, and so is what an extra asks for through
    another one, as `all` does with all that it asks for.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name not in ("dev", "docs")}
    groups = {"": project["dependencies"], **extras}
    own = {
        name: [each for each in map(Requirement, lines) if each.name != project["name"]]
        for name, lines in groups.items()
    }
    return {name: requirements for name, requirements in own.items() if requirements}


def needed_by(requirements: Iterable[Requirement]) -> set[str]:
    """Return the canonical names of some packages and of all that they need in turn on this machine.

    Raises:
        PackageNotFoundError: One of them is not installed.
    """
    found: set[tuple[str, str]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in found:
                found.add((name, extra))
                waiting += _asked_by(name, extra)
    return {name for name, _ in found}


def _asked_by(name: str, extra: str) -> Iterator[Requirement]:
    for line in requires(name) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def licence_of(stated: PackageMetadata) -> str:
    """Return the licence that a package states: as expression, by classifiers, in its own words, or as a file."""
    if expression := stated.get("License-Expression"):
        return expression
    names = [line.split(" :: ")[-1] for line in stated.get_all("Classifier") or [] if line.startswith("License ::")]
    names = [name for name in names if name != "OSI Approved"]
    if names:
        return ", ".join(names)
    words = (stated.get("License") or "").strip()
    # Some packages have the whole text of the licence there.
    is_name = words not in ("", "UNKNOWN") and "\n" not in words and len(words) <= _LONGEST_LICENCE
    return words if is_name else _licence_of_file(stated["Name"])


def _licence_of_file(name: str) -> str:
    for path in files(name) or []:
        if path.name.partition(".")[0] in ("LICENSE", "LICENCE") and ".dist-info" in str(path):
            beginning = path.read_text()[:200]
            return next((licence for words, licence in _TEXTS.items() if words in beginning), NOT_STATED)
    return NOT_STATED


def home_of(stated: PackageMetadata) -> str:
    """Return the address of a package's home page, or of its page on PyPI where it states none."""
    addresses = {}
    for line in stated.get_all("Project-URL") or []:
        label, _, address = line.partition(",")
        addresses[label.strip().lower()] = address.strip()
    for label in _HOME_LABELS:
        if label in addresses:
            return addresses[label]
    return stated.get("Home-page") or f"https://pypi.org/project/{canonicalize_name(stated['Name'])}/"


def _table(names: Iterable[str]) -> str:
    rows = []
    for name in sorted(names):
        stated = metadata(name)
        rows.append(f"| {name} | {licence_of(stated)} | {home_of(stated)} |")
    return "\n".join([*_HEAD, *rows])


def tables() -> str:
    """Return a section for what is always needed, and one for each extra."""
    groups = direct_requirements()
    listed = {canonicalize_name(each.name) for group in groups.values() for each in group}
    parts = []
    for extra, requirements in groups.items():
        parts.append(f"### `segscape{f'[{extra}]' if extra else ''}`")
        parts.append(_table(canonicalize_name(each.name) for each in requirements))
        in_turn = needed_by(requirements) - listed
        if in_turn:
            parts += ["Needed by these in turn:", _table(in_turn)]
        listed |= in_turn
    return "\n\n".join(parts)


def page(current: str) -> str:
    """Return the page with its tables written anew.

    Args:
        current: The page as it is, with both marks.
    """
    before, rest = current.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    try:
        PAGE.write_text(page(PAGE.read_text()))
    except PackageNotFoundError as error:
        sys.exit(f"The package {error.name} is not installed, so its licence is not known; make test installs all.")
