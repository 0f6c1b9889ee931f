"""The script of the release finds what is wrong with it, and says so in a sentence."""

import sys
import zipfile
from pathlib import Path

import pytest
from scripts import release

import segscape

EXPECTED = release.expected_members()


def _wheel(path: Path, names: set[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def test_versions_are_the_same_everywhere() -> None:
    assert release.check_versions(release.stated_versions()) == segscape.__version__


def test_the_newest_dated_heading_counts(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "CITATION.cff", "src/segscape/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((release.ROOT / name).read_text())
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text("## [Unreleased]\n\n## [9.8.7] - 2030-01-02\n\n## [9.8.6] - 2029-01-02\n")
    versions = release.stated_versions(tmp_path)
    assert versions["CHANGELOG.md"] == "9.8.7"
    with pytest.raises(ValueError, match=r"Versions differ: .*CHANGELOG.md says 9.8.7"):
        release.check_versions(versions)
    changelog.write_text("## [Unreleased]\n\n## [9.8.7]\n")
    with pytest.raises(ValueError, match=r"CHANGELOG.md names no version."):
        release.stated_versions(tmp_path)


def test_the_tag_names_the_version() -> None:
    assert release.check_versions({"a": "1.2.3"}, "v1.2.3") == "1.2.3"
    with pytest.raises(ValueError, match=r"The tag is v1.2.4, but this is version 1.2.3"):
        release.check_versions({"a": "1.2.3"}, "v1.2.4")


def test_the_wheel_holds_what_ships() -> None:
    weights = {f"segscape/weights/{name}.safetensors" for name in segscape.list_weights()}
    examples = {"segscape/examples/camvid/LICENCE.md", "segscape/examples/refine/aeroplane.jpg"}
    assert {"segscape/py.typed", "segscape/configs/finetune.yaml", *weights, *examples} <= EXPECTED


@pytest.mark.parametrize("lost", ["segscape/py.typed", "segscape/configs/finetune.yaml", "LICENSE"])
def test_what_a_wheel_lacks_is_named(tmp_path: Path, lost: str) -> None:
    licence = "segscape-0.1.0.dist-info/licenses/LICENSE"
    release.check_contents(_wheel(tmp_path / "whole.whl", EXPECTED | {licence}), EXPECTED)
    names = {name for name in EXPECTED | {licence} if not name.endswith(lost)}
    with pytest.raises(ValueError, match=rf"part.whl lacks {lost}\."):
        release.check_contents(_wheel(tmp_path / "part.whl", names), EXPECTED)


def test_files_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "segscape.whl"
    file.write_bytes(bytes(3_000_000))
    release.check_sizes([file])
    monkeypatch.setattr(release, "MOST_BYTES", 2_000_000)
    with pytest.raises(ValueError, match=r"segscape.whl has 3.0 MB, more than the 2 MB allowed."):
        release.check_sizes([file])


def test_a_failing_step_ends_the_release(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["release.py", "--tag", "v0"])
    assert release.main() == 1
    assert capsys.readouterr().err.startswith("The tag is v0, but this is version")
