"""Segmentation on a Ray cluster: this process plans, keeps the journals and writes the files; workers do the tasks."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from segscape.scenes.cluster.connection import WorkerShare, connection, machines
from segscape.scenes.cluster.worker import FAILURES, RemoteSceneWorker, SceneOrder
from segscape.scenes.files import Refine, SceneFiles
from segscape.scenes.pipeline import open_tasks
from segscape.scenes.scene import Scene, SceneSettings
from segscape.scenes.task import Sums, Task
from segscape.segmentation.segmenter import Segmenter

Outcome = dict[str, float] | Exception
"""The share of each class among the pixels that hold data, by name, or the error with which the scene failed."""

_TOGETHER = 64
"""The number of scenes in work at a time: enough for many machines, with few files open."""


def segment_on_ray(
    segmenter: Segmenter,
    scenes: Mapping[Path, SceneFiles],
    settings: SceneSettings,
    *,
    address: str | None,
    on_progress: Callable[[float], None],
    refine: Refine | None = None,
) -> Iterator[tuple[Path, Outcome]]:
    """Segment images on all machines of a Ray cluster, which share the folders of the images and of the results.

    The files equal those of `Scene.run`, byte for byte if processors and versions are the same. Tasks of lost machines
    are repeated by others. Each scene's journal records the finished tasks, so an interrupted run can be resumed, here
    or by `Scene.run`.

    Args:
        segmenter: Provides the network and its card.
        scenes: The files to write of each image.
        settings: The settings of all scenes; on a cluster without GPUs Ray reserves `memory` for each worker.
        address: See `segscape.scenes.cluster.connection.connection`.
        on_progress: Called with the share of all work that is done, from 0 to 1.
        refine: See `Scene`; it is called in this process.

    Yields:
        An image as soon as its files are written or it has failed, and its outcome.

    Raises:
        ModuleNotFoundError: Ray is missing; the message names the extra.
        ConnectionError: There is no cluster at the address.
        ValueError: No machine of the cluster has room for a worker; or the network is an exported one or of int8,
            which run on the machine that they were created on.
        OSError: The cluster failed.
    """
    if not segmenter.streams or segmenter.runtime.precision == "int8":
        raise ValueError("Exported networks and int8 run on one machine; leave out --engine ray.")
    with connection(address):
        memory = settings.memory if segmenter.device.type == "cpu" else 0
        cluster = _Cluster(segmenter, WorkerShare.of(machines(), memory=memory))
        waiting = list(scenes.items())[::-1]
        running: list[_Running] = []
        finished = 0

        def tell() -> None:
            on_progress((finished + sum(scene.share for scene in running)) / len(scenes))

        try:
            while waiting or running:
                while waiting and len(running) < _TOGETHER:
                    image, files = waiting.pop()
                    try:
                        running.append(_Running(segmenter, image, files, settings, refine))
                    except (ValueError, OSError) as error:
                        finished += 1
                        yield image, error
                # One round: the next sweep of a scene needs the sums over all blocks of this one.
                for _ in cluster.work(running):
                    tell()
                for scene in [scene for scene in running if scene.is_over]:
                    outcome = scene.finish()
                    running.remove(scene)
                    finished += 1
                    tell()
                    yield scene.image, outcome
        finally:
            for scene in running:
                scene.leave()


class _Running:
    """A scene in work."""

    def __init__(
        self, segmenter: Segmenter, image: Path, files: SceneFiles, settings: SceneSettings, refine: Refine | None
    ) -> None:
        self.image = image
        self.error: Exception | None = None
        self._files, self._settings = files, settings
        # The scene is closed if any of these steps fails; otherwise it stays open beyond the block.
        with ExitStack() as stack:
            self._scene = stack.enter_context(Scene(segmenter, image, files, settings, refine=refine))
            self._journal = self._scene.journal
            self._worker = self._scene.worker
            # Many scenes are in work at a time, and it is the workers that read the images.
            self._scene.release()
            self._stack = stack.pop_all()
        self._work = {task: self._worker.work(task) for sweep in self._worker.tasks() for task in sweep}
        self._total = sum(self._work.values())
        self._done = sum(self._work[task] for task in self._journal.done)

    @property
    def share(self) -> float:
        """The share of its work that is done, from 0 to 1."""
        return self._done / self._total

    @property
    def is_over(self) -> bool:
        """Whether no task is left, or the scene has failed."""
        return self.error is not None or len(self._journal.done) == len(self._work)

    def open_tasks(self) -> tuple[list[Task], SceneOrder]:
        """Return the tasks that may be done now, and what workers need to know of the scene."""
        tasks, sums = open_tasks(self._worker, self._journal)
        # The working folder of a worker is another one.
        files = replace(self._files, labels=self._files.labels.absolute())
        return tasks, SceneOrder(self.image.absolute(), files, self._settings, sums)

    def take(self, task: Task, sums: Sums) -> None:
        """Record a finished task."""
        # If a task is answered twice, because Ray has repeated it, only the first answer counts.
        if task not in self._journal.done:
            self._done += self._work[task]
            self._journal.add(task, sums)

    def finish(self) -> Outcome:
        """Write the files if no task has failed, and return the outcome."""
        try:
            with self._stack:
                # Raised inside the block: `Scene.__exit__` decides by the error whether finished tasks are kept.
                if self.error is not None:
                    raise self.error
                return self._scene.finish()
        except tuple(FAILURES.values()) as error:
            return error

    def leave(self) -> None:
        """Close all files; the finished tasks stay for the next run."""
        self._stack.close()


class _Cluster:
    """Workers on the machines of the cluster that `ray` is connected to in this process."""

    def __init__(self, segmenter: Segmenter, share: WorkerShare) -> None:
        import ray

        self._share = share
        network = segmenter.network
        # Workers need not have this process's GPU.
        if segmenter.device.type != "cpu":
            network = copy.deepcopy(network).to("cpu")
        self._weights = ray.put((network, segmenter.card))
        self._runtime = {"runtime": segmenter.runtime.name, "precision": segmenter.runtime.precision}

    def work(self, scenes: Sequence[_Running]) -> Iterator[None]:
        """Do the tasks of all scenes that may be done now, and yield after each of them.

        A scene that fails keeps its first error.
        """
        records, orders = [], []
        for number, scene in enumerate(scenes):
            tasks, order = scene.open_tasks()
            records += [{"scene": number, **task._asdict()} for task in tasks]
            orders.append(order)
        for answer in self._answers(records, orders) if records else ():
            scene = scenes[answer["scene"]]
            if not answer["error"]:
                scene.take(Task(answer["sweep"], answer["block"]), json.loads(answer["sums"]))
            elif scene.error is None:
                scene.error = FAILURES[answer["error"]](answer["message"])
            yield

    def _answers(self, records: list[dict[str, int]], orders: list[SceneOrder]) -> Iterator[dict[str, Any]]:
        """Yield the answer of a `RemoteSceneWorker` to each record, in the order in which they are done."""
        import ray

        share = self._share
        # One block of the data set per record: then each is a task of its own to Ray, repeated if its machine is lost.
        tasks = ray.data.from_items(records, override_num_blocks=len(records))
        tasks.context.enable_progress_bars = False
        answers = tasks.map(
            RemoteSceneWorker,
            fn_constructor_args=(self._weights, orders),
            fn_constructor_kwargs={
                "device": "cuda" if share.gpus else "cpu",
                "threads": max(share.cpus, 1),
                "settings": self._runtime,
            },
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=len(records), initial_size=min(share.workers, len(records))
            ),
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            memory=share.memory,
        )
        try:
            yield from answers.iter_rows()
        except ray.exceptions.RayError as error:
            raise OSError(
                f"The cluster gave up, what is done is kept: {str(error).splitlines()[-1]}. Are the same versions of "
                "segscape and PyTorch installed on all machines?"
            ) from error
