"""What mkdocs adds to the pages in docs/: those that lie at the root of the repository, for GitHub to find them.

mkdocs calls the functions below, `hooks` in mkdocs.yml names this file. Links between the pages lead to each other's
address on the site. Other files of the repository are not on the site: of a link to one the text stays.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
"""Files at the root that the site has, and what they are there: the README stands for the first page."""
_LINK = re.compile(r"(?<!!)\[([^\]\n]*(?:\n[^\]\n]+)?)\]\(([^)\s:]+?)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie at the root."""
    for source, target in PAGES.items():
        if source != "README.md":
            text = _with_site_links((ROOT / source).read_text(), "")
            files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links out of docs/ into those of the site."""
    if page.file.src_uri in PAGES.values() and page.file.abs_src_path is None:
        return markdown
    return _with_site_links(markdown, posixpath.join("docs", posixpath.dirname(page.file.src_uri)))


def _with_site_links(markdown: str, folder: str) -> str:
    """Rewrite the links of a page.

    Args:
        markdown: The page.
        folder: Its folder in the repository, "" for the root.
    """

    def rewrite(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = posixpath.normpath(posixpath.join(folder, target))
        if path.startswith("docs/"):
            return f"[{text}]({posixpath.relpath(path, folder if folder else 'docs')}{anchor})"
        if path in PAGES:
            return f"[{text}]({posixpath.relpath(posixpath.join('docs', PAGES[path]), folder or 'docs')}{anchor})"
        return text

    # What stands between fences is code.
    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(rewrite, part) for part in parts)
