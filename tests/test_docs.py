"""Commands on the pages are accepted, those of the guides run and print what is shown; nothing comes from elsewhere."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import yaml

from segscape.arguments import parse
from tests.pages import (
    COLUMNS,
    DOCS,
    NOT_RUN,
    ROOT,
    RUN,
    SHELLS,
    blocks,
    commands,
    form,
    run_page,
    why_not_run,
    write_inputs,
)

PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in DOCS.rglob("*.md"))]
SLOW = ("guides/research.md", "guides/deploy.md")
"""Pages that take more than a minute on two cores."""

_ELSEWHERE = re.compile(r"^(?:https?:)?//", re.IGNORECASE)


def _commands(page: str) -> list[tuple[int, list[str]]]:
    shells = [block for block in blocks((ROOT / page).read_text()) if block.language in SHELLS]
    return [(block.line, words) for block in shells for words in commands(block)]


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder with the configs that pages describe and then name."""
    monkeypatch.chdir(tmp_path)
    for page in PAGES:
        for block in blocks((ROOT / page).read_text()):
            file = re.match(r"# ([\w-]+\.yaml)\b", block.text)
            if block.language == "yaml" and file:
                Path(file[1]).write_text(block.text)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("configs")
def test_every_command_is_accepted(page: str) -> None:
    refused = []
    for line, words in _commands(page):
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                parse(words)
        except SystemExit as end:
            if end.code:
                refused.append(f"{page}, line {line}: segscape {' '.join(words)}: {said.getvalue()}")
        except (ValueError, OSError) as error:
            refused.append(f"{page}, line {line}: segscape {' '.join(words)}: {error}")
    assert not refused, "\n".join(refused)


def test_commands_are_checked_without_torch() -> None:
    code = (
        "import sys; from tests.pages import DOCS, blocks, commands; from segscape.arguments import parse; "
        "found = [words for block in blocks((DOCS / 'guides' / 'street.md').read_text()) if block.language == 'bash' "
        "for words in commands(block)]; [parse(words) for words in found]; assert len(found) > 10; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_commands_are_found_however_they_are_written() -> None:
    page = """
```bash
# segscape comment
segscape segment a.jpg "b c/*.png" \\
    --output labels   # a comment
find . | segscape segment - --output labels --json | jq . > list.json
srun segscape fit --config a/b
torchrun --nnodes 2 -m segscape fit --config a/b
pip install segscape
```

1. In a list:

    ```sh
    segscape models; segscape doctor
    ```

```text
segscape is not run here
```
"""
    found = [words for block in blocks(page) if block.language in SHELLS for words in commands(block)]
    assert found == [
        ["segment", "a.jpg", "b c/*.png", "--output", "labels"],
        ["segment", "-", "--output", "labels", "--json"],
        ["fit", "--config", "a/b"],
        ["fit", "--config", "a/b"],
        ["models"],
        ["doctor"],
    ]


def test_what_is_left_out_is_on_the_pages() -> None:
    lines = [f"segscape {' '.join(words)}" for name in RUN for _, words in _commands(f"docs/{name}")]
    for pattern, reason in NOT_RUN.items():
        assert reason
        assert any(re.search(pattern, line) for line in lines), f"No page has {pattern} any more."
    assert sum(why_not_run(line.split()[1:]) is None for line in lines) > 40


@pytest.mark.parametrize("page", [pytest.param(page, marks=pytest.mark.heavy if page in SLOW else ()) for page in RUN])
def test_pages_run_and_print_what_they_show(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("SEGSCAPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_inputs(folder, page)
    # In a process of its own, as its reader's are: `--max-memory` counts what a process holds already.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        printed = pool.submit(run_page, page, folder).result()
    for output in printed:
        if output.shown is not None:
            shown, printed = form(output.shown.text), form(output.text)
            renew = f"`python -m tests.pages {page}` renews docs/{page}"
            assert shown == printed, f"What line {output.line} prints is another text than is shown; {renew}."


def test_nothing_on_the_site_comes_from_elsewhere() -> None:
    sources = [*DOCS.rglob("*.md"), *DOCS.rglob("*.html"), *DOCS.rglob("*.css"), *DOCS.rglob("*.js")]
    sources += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for path in sources:
        text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        images = re.findall(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)", text)
        tags = re.findall(
            r"<(?:script|img|link|iframe|source|video|audio|object|embed)\b[^>]*?(?:src|href|data)\s*="
            r"\s*[\"']?([^\"'\s>]+)",
            text,
            re.IGNORECASE,
        )
        styles = (
            re.findall(r"(?:url\(\s*|@import\s+)[\"']?([^\"')\s]+)", text) if path.suffix in (".css", ".html") else []
        )
        # A definition of a reference may be an image's, too.
        references = re.findall(r"!\[[^\]]*\]\[([^\]]+)\]", text)
        assert not references, f"{path}: images are referred to by their paths."
        for target in [*images, *tags, *styles]:
            assert not _ELSEWHERE.match(target), f"{path} has {target} from elsewhere"
            if path.suffix == ".md" and not target.startswith("data:"):
                assert (path.parent / target).exists(), f"{path} has no {target}"
        # The theme would load a library from elsewhere to draw it.
        assert "```mermaid" not in path.read_text(), path


def test_the_theme_asks_for_nothing_from_elsewhere() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    theme = config["theme"]
    assert theme["name"] == "material"
    assert theme["font"] is False
    assert {"custom_dir", "logo", "favicon"}.isdisjoint(theme)
    for name in (*config.get("extra_css", []), *config.get("extra_javascript", [])):
        assert (DOCS / name).is_file(), name
    # A repository's address would have stars and forks asked for, analytics and consent are scripts.
    assert {"repo_url", "extra_templates"}.isdisjoint(config)
    assert {"analytics", "consent"}.isdisjoint(config["extra"])
    assert config["validation"] == dict.fromkeys(
        ("omitted_files", "absolute_links", "unrecognized_links", "anchors"), "warn"
    )


def test_the_navigation_has_every_page_once() -> None:
    def leaves(entry: object) -> list[str]:
        if isinstance(entry, dict):
            return [leaf for value in entry.values() for leaf in leaves(value)]
        return [leaf for value in entry for leaf in leaves(value)] if isinstance(entry, list) else [str(entry)]

    named = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(named) == len(set(named))
    written = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert set(named) == written | {"contributing.md", "changelog.md"}


def test_the_readme_fits_on_a_screen() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) < 80
    assert readme.index("make demo") < 120


def test_pictures_are_small() -> None:
    for path in (DOCS / "pictures").glob("*"):
        if path.is_file():
            assert path.suffix in (".jpg", ".svg"), path
            assert path.stat().st_size < 150_000, path
