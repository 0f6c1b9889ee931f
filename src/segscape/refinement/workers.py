"""Small operators side by side: each of PyTorch's threads works on pieces of its own instead of on a share of each.

An operator that takes a millisecond loses much of what a second thread gains to starting it and waiting for it, and
stands still when another program holds one of the cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def share_out(prepare: Callable[[], Callable[[T], None]], pieces: Sequence[T]) -> None:
    """Work on all pieces, each by one of `torch.get_num_threads()` threads, without gradients.

    Args:
        prepare: Called once in every thread, for buffers of its own; gives what is called with each piece.
        pieces: In the order in which they are begun.
    """
    pending = iter(list(pieces))  # a list's iterator may be shared between threads

    def run() -> None:
        with torch.inference_mode():
            work = prepare()
            for piece in pending:
                work(piece)

    threads = torch.get_num_threads()
    if min(threads, len(pieces)) <= 1:
        run()
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done in [pool.submit(run) for _ in range(min(threads, len(pieces)))]:
                done.result()
    finally:
        torch.set_num_threads(threads)  # threads that start later take the number that was set last
