"""What is said once, however often it is found: choices that nobody has stated."""

from __future__ import annotations

import logging
from functools import lru_cache


@lru_cache(maxsize=4096)
def say_once(log: logging.Logger, message: str) -> None:
    """Log a message as information, the first time that it is given."""
    log.info(message)
