"""The worker process of a cluster: a record names a task of a scene, pixels are read from and written to files."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segscape.scenes.files import SceneFiles
from segscape.scenes.scene import Scene, SceneSettings
from segscape.scenes.task import Sums, Task
from segscape.segmentation.segmenter import Segmenter

FAILURES: dict[str, type[Exception]] = {"ValueError": ValueError, "OSError": OSError, "RuntimeError": RuntimeError}
"""The errors, by name, that are due to the scene itself: another worker would raise them too."""


@dataclass(frozen=True)
class SceneOrder:
    """All that a worker needs to know of a scene that was begun elsewhere.

    Attributes:
        image: The image file, an absolute path.
        files: The files to write, the labels with an absolute path.
        settings: The settings that the scene was begun with.
        sums: The sums over the whole scene from the sweeps before.
    """

    image: Path
    files: SceneFiles
    settings: SceneSettings
    sums: Sums


class SceneWorker:
    """A worker that does tasks one at a time, as Ray Data requests them.

    The scene of the last task stays open, so tasks best come scene by scene.

    Args:
        segmenter: Provides the network and its runtime.
        orders: The scenes, to which records refer by number.
    """

    def __init__(self, segmenter: Segmenter, orders: Sequence[SceneOrder]) -> None:
        self._segmenter, self._orders = segmenter, orders
        self._number = -1
        self._scene: _BegunScene | None = None

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Do one task.

        Args:
            record: With the integers `scene`, `sweep` and `block`.

        Returns:
            The same with `sums`, in JSON; if the task failed, with the name of the `error`, as in `FAILURES`, and its
            `message`.
        """
        number, task = int(record["scene"]), Task(int(record["sweep"]), int(record["block"]))
        answer = {"scene": number, **task._asdict(), "sums": "{}", "error": "", "message": ""}
        try:
            answer["sums"] = json.dumps(self._opened(number).run(task, self._orders[number].sums))
        except tuple(FAILURES.values()) as error:
            answer["error"] = next(name for name, kind in FAILURES.items() if isinstance(error, kind))
            answer["message"] = str(error)
        return answer

    def _opened(self, number: int) -> _BegunScene:
        if self._scene is None or number != self._number:
            if self._scene is not None:
                self._scene.close()
                self._scene = None
            self._scene, self._number = _BegunScene(self._segmenter, self._orders[number]), number
        return self._scene


class RemoteSceneWorker(SceneWorker):
    """A `SceneWorker` created from the arguments that Ray passes to it.

    Args:
        weights: The reference of a network and its card in Ray's object store.
        orders: See `SceneWorker`.
        device: The device to compute on.
        threads: The number of threads that PyTorch uses.
        settings: `runtime` and `precision` of the `Segmenter`.
    """

    def __init__(
        self, weights: Any, orders: Sequence[SceneOrder], *, device: str, threads: int, settings: Mapping[str, Any]
    ) -> None:
        import ray

        torch.set_num_threads(threads)
        super().__init__(Segmenter(*ray.get(weights), device=device, **settings), orders)


class _BegunScene:
    """A scene whose unfinished files are written by several machines at the same time.

    Raises:
        FileNotFoundError: This machine does not see the image, or the folder of what is not finished.
        ValueError: The image or the installed versions differ from those where the scene was begun.
    """

    def __init__(self, segmenter: Segmenter, order: SceneOrder) -> None:
        try:
            self._scene = Scene(segmenter, order.image, order.files, order.settings)
        except FileNotFoundError:
            raise _unseen(order.image) from None
        if not self._scene.resumed:
            self._scene.release()
            raise _unseen(self._scene.folder)
        self._worker = self._scene.create_worker()
        self._descriptors = [os.open(path, os.O_RDONLY) for path in _written(self._scene.folder)]
        for descriptor in self._descriptors:
            # Over NFS Linux writes whole pages unless the file is locked, and would overwrite the bytes that another
            # machine has changed in the same page. A file system without locks does not have this problem.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH)

    def run(self, task: Task, sums: Sums) -> Sums:
        """Do a task; its results can be read from every machine when this returns."""
        made = self._worker.run(task, sums, lambda share: None)
        for descriptor in self._descriptors:
            os.fdatasync(descriptor)
        return made

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._scene.release()


def _written(folder: Path) -> list[Path]:
    """Return all files but the journal: those of pixels, logits and kept maps."""
    return [path for path in sorted(folder.iterdir()) if path.suffix != ".jsonl"]


def _unseen(path: Path) -> FileNotFoundError:
    return FileNotFoundError(
        f"{socket.gethostname()} does not see {path}: images and results must lie in folders that all machines of the "
        "cluster share, under the same paths."
    )
