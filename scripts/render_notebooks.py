"""Run the notebooks of `notebooks/*.py`, and write each as a notebook and as a page, with what its cells show.

Run it after a notebook, or what it shows, has changed: `python scripts/render_notebooks.py [NAME ...]`. It writes
`notebooks/NAME.ipynb` and `docs/notebooks/NAME.md` with its pictures in `docs/notebooks/pictures`.
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
PAGES = ROOT / "docs" / "notebooks"
MOST_SECONDS = 300
"""The most that a cell may take."""
MOST_BYTES = 120_000
"""The largest picture of a page."""
_QUALITY = 82
_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png"}


def names() -> list[str]:
    """Return the names of all notebooks."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def read(name: str) -> NotebookNode:
    """Read a notebook's source, without any outputs."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    notebook.metadata = NotebookNode(kernelspec=notebook.metadata.kernelspec, language_info={"name": "python"})
    for number, cell in enumerate(notebook.cells, start=1):
        # Random otherwise.
        cell.id = f"{name}-{number}"
    return notebook


def run(notebook: NotebookNode, folder: Path) -> None:
    """Run all cells with this Python, and keep what they show.

    Args:
        notebook: It gets the outputs; whatever differs from run to run or from machine to machine is removed.
        folder: The working folder.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
        ValueError: A cell has written to standard error, or shows a picture that is too large.
    """
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=MOST_SECONDS, record_timing=False, resources=resources)
    client.execute()
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_tidied(output) for output in cell.outputs]


def _tidied(output: NotebookNode) -> NotebookNode:
    if output.output_type == "stream":
        if output.name != "stdout":
            raise ValueError(f"A cell has written to standard error: {output.text}")
        return output
    if "execution_count" in output:
        output.execution_count = None
    if "image/png" in output.data:
        kind, content = _compressed(base64.b64decode(output.data["image/png"]))
        output.data = NotebookNode({kind: base64.b64encode(content).decode()})
    elif "text/markdown" in output.data:
        output.data = NotebookNode({"text/markdown": output.data["text/markdown"]})
    return output


def _compressed(png: bytes) -> tuple[str, bytes]:
    """Return a picture's media type and content: JPEG, unless PNG, which keeps it exactly, takes little more."""
    picture = Image.open(io.BytesIO(png))
    contents = {}
    for kind, settings in (
        ("image/png", {"format": "PNG", "optimize": True}),
        ("image/jpeg", {"format": "JPEG", "quality": _QUALITY, "optimize": True}),
    ):
        file = io.BytesIO()
        picture.convert("RGB").save(file, **settings)
        contents[kind] = file.getvalue()
    kind = "image/png" if len(contents["image/png"]) < 2 * len(contents["image/jpeg"]) else "image/jpeg"
    if len(contents[kind]) > MOST_BYTES:
        raise ValueError(f"A picture of {picture.size} takes {len(contents[kind])} bytes, more than {MOST_BYTES}.")
    return kind, contents[kind]


def page(name: str, notebook: NotebookNode) -> tuple[str, dict[str, bytes]]:
    """Turn a notebook that was run into Markdown.

    Args:
        name: Of the notebook.
        notebook: Its first cell is its title and what it shows.

    Returns:
        The text, and the pictures that it shows by their names.
    """
    blocks = []
    pictures: dict[str, bytes] = {}
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")]
            heading = headings[-1] if headings else heading
            # Links from the folder of the notebooks become links from the folder of the pages.
            blocks.append(cell.source.replace("](../docs/", "](../"))
            continue
        blocks.append(f"```python\n{cell.source}\n```")
        for kind, content in shown(cell):
            if kind in _SUFFIXES:
                file = f"{name}-{len(pictures) + 1}.{_SUFFIXES[kind]}"
                pictures[file] = base64.b64decode(content)
                blocks.append(f"![{heading}](pictures/{file})")
            else:
                blocks.append(content if kind == "text/markdown" else f"```text\n{content.rstrip()}\n```")
    title, intro = blocks[0].split("\n\n", 1)
    origin = f"*This page is `notebooks/{name}.ipynb`, as it was run: [how to open it](index.md#open-them).*"
    return "\n\n".join([title, origin, intro, *blocks[1:]]) + "\n", pictures


def shown(cell: NotebookNode) -> Iterator[tuple[str, Any]]:
    """Yield the media type and the content of each output of a cell."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield "text/plain", output.text
        else:
            yield from output.data.items()


def render(name: str) -> None:
    """Run a notebook, and write it and its page."""
    notebook = read(name)
    with tempfile.TemporaryDirectory() as folder:
        run(notebook, Path(folder))
    text, pictures = page(name, notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, FOLDER / f"{name}.ipynb")
    (PAGES / "pictures").mkdir(parents=True, exist_ok=True)
    (PAGES / f"{name}.md").write_text(text)
    for path in (PAGES / "pictures").glob(f"{name}-*"):
        path.unlink()
    for file, content in pictures.items():
        (PAGES / "pictures" / file).write_bytes(content)
    print(f"{name}: {len(pictures)} pictures, {sum(map(len, pictures.values())) / 1000:.0f} kB")


def main() -> None:
    """Render the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=names(), metavar="NAME", help="by default all")
    for name in parser.parse_args().names:
        render(name)


if __name__ == "__main__":
    main()
