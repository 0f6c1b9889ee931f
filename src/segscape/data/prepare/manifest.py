"""The record of the files that a preparation wrote: `manifest.json`, and a journal while it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from segscape.files import atomic_path


class Manifest:
    """The sha256 of every prepared file, by its path relative to the root.

    A run notes each finished file in `manifest.partial.jsonl`, so that it can be resumed however it was stopped; a run
    without problems replaces that journal by `manifest.json`.

    Args:
        root: The data set's folder.
        dataset: Its name.
        shared: The folder is for several data sets; the files are then `manifest.<name>.json` and so on.

    Attributes:
        path: `manifest.json`.
        recorded: The sha256 of each file that this or an earlier run wrote, by its path.

    Raises:
        ValueError: The folder holds another data set, or its manifest is damaged.
    """

    def __init__(self, root: Path, dataset: str, *, shared: bool = False) -> None:
        stem = f"manifest.{dataset}" if shared else "manifest"
        self.path = root / f"{stem}.json"
        self.dataset = dataset
        self.recorded: dict[str, str] = {}
        self._journal_path = root / f"{stem}.partial.jsonl"
        self._journal: TextIO | None = None
        if self.path.is_file():
            self.recorded.update(self._read())
        if self._journal_path.is_file():
            self.recorded.update(self._read_journal())

    def _read(self) -> dict[str, str]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            dataset, recorded = content["dataset"], dict(content["files"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self.path} is damaged; delete it, and everything is prepared again.") from None
        if dataset != self.dataset:
            raise ValueError(f"{self.path} says that {dataset} was prepared here; choose another --root.")
        return recorded

    def _read_journal(self) -> dict[str, str]:
        recorded = {}
        for line in self._journal_path.read_text(encoding="utf-8").splitlines():
            try:
                target, digest = json.loads(line)
            except ValueError:
                continue  # The run was stopped within this line.
            recorded[target] = digest
        return recorded

    def note(self, target: str, digest: str) -> None:
        """Record a finished file at once."""
        if self.recorded.get(target) == digest:
            return
        self.recorded[target] = digest
        if self._journal is None:
            self._journal_path.parent.mkdir(parents=True, exist_ok=True)
            # A newline first, to end an entry that a stopped run may have cut short.
            self._journal = self._journal_path.open("a", encoding="utf-8")
            self._journal.write("\n")
        self._journal.write(json.dumps([target, digest]) + "\n")
        self._journal.flush()

    def close(self) -> None:
        """Close the journal; a later run continues from it."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def finish(self, counts: Mapping[str, Mapping[str, int]], files: Mapping[str, str]) -> None:
        """Write `manifest.json` in place of the journal.

        Args:
            counts: The number of files by split and kind.
            files: The sha256 of each file.
        """
        self.close()
        content = {"dataset": self.dataset, "counts": counts, "files": dict(sorted(files.items()))}
        text = json.dumps(content, indent=1) + "\n"
        if not self.path.is_file() or self.path.read_text(encoding="utf-8") != text:
            with atomic_path(self.path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        self._journal_path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
