"""A record of the finished tasks of a scene, in a file that outlives the process."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segscape.scenes.task import Sums, Task

_log = logging.getLogger(__name__)


class Journal:
    """The finished tasks of a scene with their sums, in a file of lines, of which the first identifies the run.

    A line is JSON after its checksum. A journal with a damaged line is begun anew, which is logged: what else it says
    may be wrong too. A last line that was cut short is what a killed process leaves, and is ignored.

    Args:
        path: The file; it is created if it is missing.
        run_signature: Everything that must be unchanged for the finished tasks to count, as plain JSON.

    Attributes:
        done: The sums of each finished task.

    Raises:
        ValueError: The file is of another run, and the message names the difference; or another process has it open.
        OSError: It cannot be read or written.
    """

    def __init__(self, path: Path, run_signature: Mapping[str, Any]) -> None:
        self.done: dict[Task, Sums] = {}
        self._path = path
        if path.parent.is_symlink() or path.is_symlink():
            raise ValueError(f"{path.parent} holds unfinished results behind a link, which is not followed; remove it.")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ValueError(
                f"Another process is at work in {path.parent}; wait for it, or choose another --output."
            ) from None
        try:
            self._restore(run_signature)
        except ValueError:
            self._file.close()
            raise

    @staticmethod
    def signature_of(path: Path) -> dict[str, Any] | None:
        """Return the run signature of a journal; None if there is none, or its first line is incomplete or damaged."""
        with contextlib.suppress(FileNotFoundError, ValueError), path.open("rb") as file:
            line = file.readline()
            return _parsed(line) if line.endswith(b"\n") else None
        return None

    @staticmethod
    def check_signature(path: Path, found: Mapping[str, Any], run_signature: Mapping[str, Any]) -> None:
        """Refuse a journal of another run.

        Args:
            path: The file of the journal.
            found: Its run signature.
            run_signature: The entries that it must have; any others are ignored.

        Raises:
            ValueError: They differ.
        """
        plain = json.loads(json.dumps(run_signature))
        differing = sorted(key for key in plain if found.get(key) != plain[key])
        if differing:
            raise ValueError(
                f"{path.parent} holds an interrupted run with another state of: {', '.join(differing)}. Repeat the "
                "command that was interrupted to go on with it, or delete the folder to start afresh."
            )

    def add(self, task: Task, sums: Sums) -> None:
        """Record a finished task; all that it has written must be in its files by now."""
        self._append({**task._asdict(), "sums": sums})
        self.done[task] = sums

    def restart(self, run_signature: Mapping[str, Any]) -> None:
        """Forget all finished tasks."""
        self.done.clear()
        self._file.truncate(0)
        self._append(run_signature)

    def close(self) -> None:
        """Close the file, which is kept."""
        self._file.close()

    def _append(self, entry: Mapping[str, Any]) -> None:
        text = json.dumps(entry).encode()
        self._file.write(b"%08x %s\n" % (zlib.crc32(text), text))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _restore(self, run_signature: Mapping[str, Any]) -> None:
        """Restore the finished tasks from the file, or begin a new one."""
        self._file.seek(0)
        # A last line that was cut short is ignored, and removed below: the next entry would be appended to it.
        whole = [line for line in self._file if line.endswith(b"\n")]
        try:
            entries = [_parsed(line) for line in whole]
            done = dict(map(_task_of, entries[1:]))
        except ValueError:
            _log.warning(
                "%s: what is noted of an interrupted run is damaged; the scene is begun anew.", self._path.parent
            )
            entries = []
        if not entries:
            self.restart(run_signature)
            return
        self.check_signature(self._path, entries[0], run_signature)
        self.done.update(done)
        self._file.truncate(sum(map(len, whole)))


def _parsed(line: bytes) -> dict[str, Any]:
    """Return the entry of a line.

    Raises:
        ValueError: It is damaged, or of another version.
    """
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise ValueError("The line has another checksum.")
    try:
        entry = json.loads(text)
    except RecursionError:
        raise ValueError("The line is nested too deeply.") from None
    if not isinstance(entry, dict):
        raise ValueError("The line is no entry.")
    return entry


def _task_of(entry: Mapping[str, Any]) -> tuple[Task, Sums]:
    """Return the task of an entry, and its sums.

    Raises:
        ValueError: It has others, as those of another version.
    """
    sums = entry.get("sums")
    if not isinstance(sums, dict) or not all(isinstance(total, list) for total in sums.values()):
        raise ValueError("The entry has no sums.")
    numbers = [number for total in sums.values() for number in total]
    task = Task(entry.get("sweep", ""), entry.get("block", ""))
    if not all(type(number) is int for number in task) or not all(isinstance(number, float) for number in numbers):
        raise ValueError("The entry has no numbers in their places.")
    return task, sums
