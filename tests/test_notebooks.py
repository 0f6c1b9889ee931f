"""Every notebook runs, and what is committed of it is what its source says and what it shows when it is run."""

import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image
from scripts import render_notebooks
from scripts.render_notebooks import FOLDER, PAGES

NAMES = render_notebooks.names()
NUMBER = re.compile(r"\d[\d.,]*")


def _committed(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def _shown(notebook: NotebookNode) -> list[list[tuple[str, str]]]:
    """Return what each cell shows: text, without numbers, since machines round differently; of pictures only that."""
    return [
        [
            (kind, NUMBER.sub("#", content)) if kind.startswith("text/") else ("picture", "")
            for kind, content in _outputs(cell)
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def _outputs(cell: NotebookNode) -> list[tuple[str, str]]:
    return list(render_notebooks.shown(cell))


def test_there_are_notebooks() -> None:
    assert {"refine", "scene_to_map", "street"} <= set(NAMES)
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)
    assert {path.stem for path in PAGES.glob("*.md")} == {*NAMES, "index"}


@pytest.mark.parametrize("name", NAMES)
def test_shows_when_run_what_is_committed(name: str, tmp_path: Path) -> None:
    notebook = render_notebooks.read(name)
    render_notebooks.run(notebook, tmp_path)
    assert _shown(notebook) == _shown(_committed(name))
    text = "\n".join(content for cell in notebook.cells if cell.cell_type == "code" for _, content in _outputs(cell))
    if name == "street":
        assert float(re.search(r"right: ([\d.]+)%", text)[1]) > 90
    elif name == "scene_to_map":
        differing, pixels = re.search(r"([\d,]+) of ([\d,]+) labels differ", text).groups()
        assert int(differing.replace(",", "")) < 1e-4 * int(pixels.replace(",", ""))
    elif name == "refine":
        assert 1 < float(re.search(r"([\d.]+)% of the pixels have changed", text)[1]) < 10


@pytest.mark.parametrize("name", NAMES)
def test_notebook_holds_its_source(name: str) -> None:
    source = jupytext.read(FOLDER / f"{name}.py")
    committed = _committed(name)
    nbformat.validate(committed)
    assert [(cell.cell_type, cell.source) for cell in committed.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ]
    assert source.cells[0].source.startswith("# ")
    assert "pip install segscape jupyter" in source.cells[0].source
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None and not cell.metadata for cell in code)
    shown = "".join(content for cell in code for kind, content in _outputs(cell) if kind.startswith("text/"))
    assert not re.search(r"(^|[\s'\"(])(/\w+/|[A-Z]:\\)|site-packages|0x[0-9a-f]{6}", shown)


@pytest.mark.parametrize("name", NAMES)
def test_page_is_made_of_the_notebook(name: str) -> None:
    text, pictures = render_notebooks.page(name, _committed(name))
    assert (PAGES / f"{name}.md").read_text() == text
    found = {path.name: path.read_bytes() for path in (PAGES / "pictures").glob(f"{name}-*")}
    assert found == pictures
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (PAGES / link).exists(), link


def test_index_names_every_notebook_with_a_picture() -> None:
    text = (PAGES / "index.md").read_text()
    for name in NAMES:
        picture = re.search(rf"\[!\[[^\]]+\]\((pictures/{name}-\d+\.\w+)\)\]\({name}\.md\)", text)
        assert picture is not None
        assert Image.open(PAGES / picture[1]).width >= 400


def test_files_are_small() -> None:
    pictures = [path.stat().st_size for path in (PAGES / "pictures").iterdir()]
    assert max(pictures) <= render_notebooks.MOST_BYTES
    assert sum(pictures) <= 700_000
    assert sum(path.stat().st_size for path in FOLDER.glob("*.ipynb")) <= 1_000_000
