"""Configs and label files of any content: settings, or one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from segscape.cli.main import main
from segscape.config_file import load_config
from segscape.yaml_file import read_yaml

_LEVELS = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
_LEVELS += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
GROWING = "\n".join(_LEVELS)

BAD = {
    GROWING: "aliases that stand for more than 1,000,000 values",
    "a: &a [*a]": "aliases that stand for more than",
    "a: &a\n  b: *a": "aliases that stand for more than",
    "- a\n- b": "holds no settings",
    "5": "holds no settings",
    "": "holds no settings",
    "a: [": "is no YAML",
    "[" * 5_000: "is no YAML",
    "a: !!python/object/apply:os.system [ls]": "is no YAML",
    "a: *b": "is no YAML",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_refused_in_a_sentence(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=BAD[text]) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    assert main(["data", "check", str(tmp_path)]) == 1
    assert main(["fit", "--config", str(path)]) == 1
    told = capsys.readouterr().err
    assert told.count("error:") == 2
    assert "Traceback" not in told


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00a: 1")
    with pytest.raises(ValueError, match="is no YAML"):
        read_yaml(tmp_path / "a.yaml")


def test_aliases_in_measure_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]")
    assert read_yaml(tmp_path / "a.yaml")["b"] == {"x": 1, "y": 2}


def test_configs_that_build_on_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: [b.yaml]")
    (tmp_path / "b.yaml").write_text("base: [a.yaml]")
    with pytest.raises(ValueError, match=r"b\.yaml builds on a\.yaml, which builds on it"):
        load_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("base: {b: yaml}")
    with pytest.raises(ValueError, match="`base` must be the name of the config"):
        load_config(tmp_path / "a.yaml")
