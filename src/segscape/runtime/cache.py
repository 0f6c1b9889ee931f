"""A cache on disk for results that take long to compute, kept from one process to the next."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segscape import __version__
from segscape.files import atomic_path

_DIGEST_BYTES = 32

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the folder of the cache: `SEGSCAPE_CACHE`, or the folder that the system gives each user for caches.

    All of it may be deleted at any time; its content is computed again when it is needed.
    """
    if "SEGSCAPE_CACHE" in os.environ:
        return Path(os.environ["SEGSCAPE_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "segscape"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "segscape"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "segscape"


def cached(kind: str, key: Mapping[str, Any], make: Callable[[], bytes]) -> bytes:
    """Return the bytes kept under a key, or call `make` for them and keep them.

    A damaged file counts as missing. Where the folder cannot be written to, the bytes are computed every time.

    Args:
        kind: Kind of the content, with which the file's name begins, for people who look into the folder.
        key: All values that the bytes depend on, as plain JSON.
        make: Computes the bytes; called where none are kept.
    """
    kept = find(kind, key)
    if kept is None:
        kept = make()
        keep(kind, key, kept)
    return kept


def find(kind: str, key: Mapping[str, Any]) -> bytes | None:
    """Return the bytes kept under a key, or None where they are missing or damaged."""
    path = _path(kind, key)
    try:
        content = path.read_bytes()
    except OSError:
        return None
    # The digest reveals files that were cut short, or that two processes wrote at the same time.
    payload = memoryview(content)[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != content[:_DIGEST_BYTES]:
        _log.warning("%s is damaged and is made again.", path)
        return None
    return content[_DIGEST_BYTES:]


def keep(kind: str, key: Mapping[str, Any], payload: bytes) -> None:
    """Keep bytes under a key, in place of those that were kept under it."""
    path = _path(kind, key)
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
    except OSError as error:
        # The caller has the bytes, so a folder that cannot be written to is no reason to fail.
        _log.warning("%s cannot be kept for the next time (%s); SEGSCAPE_CACHE names another folder.", path, error)


def _path(kind: str, key: Mapping[str, Any]) -> Path:
    # Another version of this package may compute other bytes; equal keys must give one name in whatever order they are.
    text = json.dumps({"segscape": __version__, **key}, sort_keys=True)
    return cache_folder() / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.bin"
