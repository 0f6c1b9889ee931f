"""Arrays that are read and written by window: in a file, where they may be larger than memory, or in memory."""

from __future__ import annotations

import errno
import math
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segscape.geometry.window import Window

_SMALL_BYTES = 1 << 17


class ScratchArray:
    """An array (H, W) or (H, W, C) in a raw file of its values, in row-major order.

    Windows are read and written at their offsets in the file, so several threads and processes may use it at once, and
    memory holds no more than the window. The file is sparse: values never written read as 0 and take no disk space. A
    file left by an interrupted process is opened with its contents. A pickled array refers to its file by path.

    Args:
        path: The file; it is created if missing, as is its folder.
        shape: (H, W) or (H, W, C).
        dtype: The type of the values.

    Raises:
        ValueError: The file has another length than the array.
        OSError: It cannot be created, or the disk has no room for the part not yet written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        assert len(shape) in (2, 3), f"{shape} is neither (H, W) nor (H, W, C)"
        self.path = path
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._pixel_bytes = math.prod(shape[2:]) * self.dtype.itemsize
        path.parent.mkdir(parents=True, exist_ok=True)
        self._check_room()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        # Closes the descriptor once: on `close`, or when the array is collected without it.
        self._closed = weakref.finalize(self, os.close, self._descriptor)
        self._claim()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.shape, self.dtype)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.shape[0], self.shape[1]

    @property
    def nbytes(self) -> int:
        """The length of the full file in bytes."""
        return math.prod(self.size) * self._pixel_bytes

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read the values of a window, (h, w) or (h, w, C).

        Raises:
            ValueError: The window is empty or reaches beyond the array.
            OSError: The file cannot be read, or was cut short.
        """
        if window.height * self.size[1] * self._pixel_bytes <= _SMALL_BYTES and window.width < self.size[1]:
            # One read of a few short rows as a whole takes less time than one read for each row's part.
            window.check_inside(self.size)
            rows = self.read(window._replace(col=0, width=self.size[1]))
            return np.ascontiguousarray(rows[:, window.col : window.stop_col])
        values = np.empty((*window.size, *self.shape[2:]), self.dtype)
        # Calls with an offset of their own leave the file's position alone, so that threads need no lock.
        for piece, offset in self._runs(window, values):
            _transfer(lambda rest, at: os.preadv(self._descriptor, [rest], at), piece, offset, self.path)
        return values

    def write(self, window: Window, values: npt.NDArray[Any]) -> None:
        """Replace the values of a window.

        Args:
            window: The window.
            values: (h, w) or (h, w, C), of the array's dtype.

        Raises:
            ValueError: The window is empty or reaches beyond the array, or `values` has another shape or dtype.
            OSError: The disk is full, or the file cannot be written.
        """
        if values.shape != (*window.size, *self.shape[2:]) or values.dtype != self.dtype:
            raise ValueError(
                f"{values.dtype} values of shape {values.shape} do not fit {window!r} of a {self.dtype} array of shape "
                f"{self.shape}."
            )
        try:
            for piece, offset in self._runs(window, np.ascontiguousarray(values)):
                _transfer(lambda rest, at: os.pwrite(self._descriptor, rest, at), piece, offset, self.path)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise self._disk_full() from None
            raise

    def flush(self) -> None:
        """Wait until everything written would survive a loss of power."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file, without deleting it."""
        self._closed()

    def _check_room(self) -> None:
        # An existing file may be sparse, so its length does not count. The unit of `st_blocks` is 512 bytes on every
        # file system.
        held = self.path.stat().st_blocks * 512 if self.path.exists() else 0
        if shutil.disk_usage(self.path.parent).free < self.nbytes - held:
            raise self._disk_full()

    def _claim(self) -> None:
        """Set the length of a new file, or check that of an existing one."""
        # A file of length 0 is new, also if another process has just created it and not yet set its length.
        length = os.fstat(self._descriptor).st_size
        if length not in (0, self.nbytes):
            raise ValueError(
                f"{self.path} has {length} bytes where an array of shape {self.shape} and {self.dtype} has "
                f"{self.nbytes}; delete it to start afresh."
            )
        try:
            os.ftruncate(self._descriptor, self.nbytes)
        except OSError:
            if not length:
                self.path.unlink()
            raise self._disk_full() from None

    def _disk_full(self) -> OSError:
        folder = self.path.parent
        return OSError(
            f"{self.path} needs {self.nbytes} bytes and cannot grow any more, with {shutil.disk_usage(folder).free} "
            f"free in {folder}; make room or choose another folder."
        )

    def _runs(self, window: Window, values: npt.NDArray[Any]) -> Iterator[tuple[memoryview, int]]:
        """Yield the contiguous pieces of a window in the file: the bytes of `values` and their offset."""
        window.check_inside(self.size)
        width = self.size[1]
        # No copy of `values`, which is contiguous: reading fills it through these bytes.
        data = values.reshape(-1).view(np.uint8).data
        # Rows as wide as the array follow one another in the file without a gap.
        rows = window.height if window.width == width else 1
        length = rows * window.width * self._pixel_bytes
        for row in range(0, window.height, rows):
            start = row * window.width * self._pixel_bytes
            yield data[start : start + length], ((window.row + row) * width + window.col) * self._pixel_bytes


class MemoryArray:
    """An array in memory that is read and written like a `ScratchArray`.

    Args:
        values: (H, W) or (H, W, C); it is used as it is, not copied.
    """

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.values = values

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.values.shape[0], self.values.shape[1]

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Return the values of a window, (h, w) or (h, w, C), as a view.

        Raises:
            ValueError: The window is empty or reaches beyond the array.
        """
        window.check_inside(self.size)
        return self.values[window.slices]

    def write(self, window: Window, values: npt.NDArray[Any]) -> None:
        """Replace the values of a window by `values`, (h, w) or (h, w, C).

        Raises:
            ValueError: The window is empty or reaches beyond the array, or `values` does not fit it.
        """
        window.check_inside(self.size)
        self.values[window.slices] = values


def _transfer(move: Callable[[memoryview, int], int], piece: memoryview, offset: int, path: Path) -> None:
    """Read or write a whole piece: one call may move only a part of it, 2 GiB at most."""
    done = 0
    while done < len(piece):
        moved = move(piece[done:], offset + done)
        if moved == 0:
            raise OSError(f"{path} ends at byte {offset + done}; something else has cut it short.")
        done += moved
