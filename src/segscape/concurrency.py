"""Reading ahead and writing in the background, so that computing does not wait for either."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Prefetcher(Generic[_T]):
    """The items of an iterator, computed ahead of their use in a thread of their own.

    Args:
        items: The iterator, consumed in the thread; an error in it is raised where the item is requested.
        count: The number of finished items that may wait; one more is being computed meanwhile.
    """

    def __init__(self, items: Iterator[_T], *, count: int = 1) -> None:
        self._items = items
        self._waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(count)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._make, daemon=True)

    def __enter__(self) -> Iterator[_T]:
        self._thread.start()
        return self._given()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            # The thread may be blocked on a full queue, so emptying the queue is what lets it see the event.
            if not self._waiting.empty():
                self._waiting.get()
            self._thread.join(0.01)

    def _make(self) -> None:
        try:
            for item in self._items:
                if self._stopped.is_set():
                    return
                self._waiting.put((True, item))
            self._waiting.put((False, StopIteration()))
        except BaseException as error:
            # Whatever it is, the reader waits for it.
            self._waiting.put((False, error))

    def _given(self) -> Iterator[_T]:
        while True:
            is_item, value = self._waiting.get()
            if is_item:
                yield value
            elif isinstance(value, StopIteration):
                return
            else:
                raise value


class BackgroundWriter:
    """Calls run in order by a thread of their own; leaving the `with` block waits for them.

    Args:
        count: The number of calls that may be pending; a further one blocks until the oldest has finished.

    Raises:
        Exception: The first error of a call, at a later call or on leaving.
    """

    def __init__(self, *, count: int = 2) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._calls: queue.SimpleQueue[Future[None]] = queue.SimpleQueue()
        self._count = count

    def __enter__(self) -> BackgroundWriter:
        return self

    def __call__(self, function: Callable[..., None], *arguments: Any) -> None:
        """Queue the call `function(*arguments)`."""
        while self._calls.qsize() >= self._count:
            self._calls.get().result()
        self._calls.put(self._pool.submit(function, *arguments))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Leaving the pool waits for all calls. After an error in the block theirs are not raised: they would hide it.
        with self._pool:
            while error is None and not self._calls.empty():
                self._calls.get().result()
