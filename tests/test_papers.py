"""The pages around the code say the same as the code."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

import segscape

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
PAGES = ["CHANGELOG.md", "CODE_OF_CONDUCT.md", "SECURITY.md", "THIRD_PARTY_LICENCES.md", "docs/citation.md"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_the_newest_version_of_the_changelog_is_this_one() -> None:
    headings = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    versions = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:]]
    assert all(versions), headings
    assert versions[0][1] == segscape.__version__


def test_changes_are_sorted_by_their_kind() -> None:
    kinds = set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE))
    assert kinds
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_has_what_its_form_asks_for() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    assert CITATION["version"] == segscape.__version__
    assert CITATION["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    assert CITATION["message"]


@pytest.mark.parametrize("work", [CITATION, *CITATION["references"]], ids=lambda work: work["title"].split()[0])
def test_every_cited_work_has_its_fields(work: dict) -> None:
    assert work["title"]
    assert work["authors"]
    for author in work["authors"]:
        assert set(author) in ({"name"}, {"family-names", "given-names"}), author
    container = {"software": "title", "article": "journal", "conference-paper": "collection-title"}[work["type"]]
    assert work[container]
    if work is not CITATION:
        assert 2020 <= work["year"] <= 2030
        assert work["repository-code"].startswith("https://github.com/")
    assert work.get("end", 0) >= work.get("start", 0)


def test_every_cited_work_has_its_bibtex() -> None:
    page = (ROOT / "docs" / "citation.md").read_text()
    entries = {
        re.sub(r"[{}]", "", re.search(r"title = \{(.+)\},?$", entry, re.MULTILINE)[1]): entry
        for entry in re.findall(r"^@\w+\{.+?^\}$", page, re.MULTILINE | re.DOTALL)
    }
    assert set(entries) == {work["title"] for work in (CITATION, *CITATION["references"])}
    for work in CITATION["references"]:
        entry = entries[work["title"]]
        names = [f"{author['family-names']}, {author['given-names']}" for author in work["authors"]]
        assert " ".join(re.search(r"author = \{(.+?)\}", entry, re.DOTALL)[1].split()) == " and ".join(names)
        assert f"year = {{{work['year']}}}" in entry
        assert ("start" in work) == ("pages" in entry)
        assert "start" not in work or f"pages = {{{work['start']}--{work['end']}}}" in entry


def test_the_bibtex_of_every_network_is_named() -> None:
    page = (ROOT / "docs" / "citation.md").read_text()
    table = page[page.index("| networks |") : page.index("```bibtex\n@inproceedings")]
    patterns = re.findall(r"`(\w+\*?)`", table)
    networks = segscape.list_models(task="segmentation") + segscape.list_models(task="refinement")
    missing = [name for name in networks if not any(fnmatch(name, pattern) for pattern in patterns)]
    assert not missing
    keys = set(re.findall(r"^@\w+\{(\w+),$", page, re.MULTILINE)) - {"segscape"}
    assert keys <= set(patterns)


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_forms_of_issues_are_as_github_reads_them(name: str) -> None:
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert form["name"]
    assert form["description"]
    parts = [part for part in form["body"] if part["type"] != "markdown"]
    assert {part["type"] for part in parts} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert len({part["id"] for part in parts}) == len(parts)
    assert all(part["attributes"]["label"] for part in parts)
    assert any(part.get("validations", {}).get("required") for part in parts)


def test_who_reports_a_bug_is_asked_for_the_versions() -> None:
    assert "segscape doctor" in (GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name: str) -> None:
    page = (ROOT / name).read_text()
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", page) if "://" not in target]
    missing = [target for target in targets if not (ROOT / name).parent.joinpath(target).exists()]
    assert not missing


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_do_no_more_than_they_need(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        wanted = {"id-token": "write"} if name == "publish" else None
        assert job.get("permissions") == wanted, name
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@(release/)?v\d+", step["uses"]), step["uses"]
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_workflows_call_what_the_repository_has() -> None:
    assert WORKFLOWS
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for words in (step["run"].split() for step in job["steps"] if "run" in step):
                for word in words:
                    assert not word.startswith((".ci/", "scripts/")) or (ROOT / word).exists(), word
                if words[0] == "make":
                    assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_supported_python_is_tried() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = yaml.safe_load((GITHUB / "workflows" / "versions.yml").read_text())
    matrix = versions["jobs"]["python"]["strategy"]["matrix"]["version"]
    assert project["requires-python"] == f">={matrix[0]}"
    assert all(isinstance(version, str) for version in matrix)
