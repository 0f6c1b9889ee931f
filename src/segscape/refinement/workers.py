"""Small operators in parallel: each thread works on whole pieces of its own instead of on a share of every operator.

When an operator that takes a millisecond is split among threads, starting and waiting for them costs much of the gain,
and the operator stalls whenever another program occupies one of the cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def share_out(prepare: Callable[[], Callable[[T], None]], pieces: Sequence[T]) -> None:
    """Process all pieces, each in one of up to `torch.get_num_threads()` threads, without gradients.

    Args:
        prepare: Called once in every thread, so that each can have its own buffers; returns the function that is called
            with each piece.
        pieces: The pieces, in the order in which they are begun.
    """
    pending = iter(list(pieces))  # a list's iterator may be shared between threads

    def run() -> None:
        with torch.inference_mode():  # it holds for a single thread
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
