"""Segmentation of an image of any size from file to file, resumed where an interrupted run has stopped."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from segscape import __version__
from segscape.geometry.window import Window
from segscape.rasters.channels import Scaling
from segscape.rasters.scratch import ScratchArray
from segscape.rasters.source import open_source
from segscape.runtime.system_memory import give_back_above, resident, return_freed
from segscape.runtime.winograd.runtime import WinogradRuntime
from segscape.scenes.checks import check_place, check_room, check_runtime, free_disk
from segscape.scenes.files import Refine, SceneFiles, write_files
from segscape.scenes.images import Images
from segscape.scenes.journal import Journal
from segscape.scenes.logits import Logits
from segscape.scenes.outputs import LabelWriter, OutputArrays
from segscape.scenes.pipeline import WorkerSequence, run_tasks
from segscape.scenes.planner import Context, plan_scene, restored
from segscape.scenes.streaming.worker import StreamingWorker
from segscape.scenes.task import Worker
from segscape.scenes.tiling import TilingWorker
from segscape.scenes.views import IDENTITY, View
from segscape.segmentation.segmenter import Segmenter
from segscape.segmentation.working_size import sight_of

_log = logging.getLogger(__name__)

_SPARE_MEMORY_SHARE = 0.34
"""The share of the memory that is reserved for everything that the estimates leave out."""
_MOST_DISK_SHARE = 0.8
"""The share of the free disk that intermediate files may take."""
_REFINING_BYTES_PER_PIXEL = 16
"""Bytes per pixel that refining takes beside the refiner's own memory: the image, labels, probabilities."""
_JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class SceneSettings:
    """How a scene is read and segmented.

    Attributes:
        memory: The bytes that the whole process may take; on a GPU, those that the computation there may take.
        context: See `segscape.scenes.planner.plan_scene`.
        views: See `plan_scene`.
        bands: See `segscape.rasters.source.open_source`.
        scaling: See `open_source`.
        nodata: See `open_source`.

    Examples:
        >>> import segscape
        >>> segscape.SceneSettings(memory=4_000_000_000, bands=(4, 3, 2), nodata=0).context is None
        True
    """

    memory: int
    context: Context | None = None
    views: tuple[View, ...] = IDENTITY
    bands: tuple[int, ...] | None = None
    scaling: Scaling | None = None
    nodata: float | None = None


class Scene:
    """One image that is to be segmented.

    Unfinished results are kept in a hidden folder beside the labels, which is removed when all files are written. As
    long as it exists, the same scene with the same settings resumes where it has stopped.

    Args:
        segmenter: Provides the network and its card.
        image: The image file.
        files: The files to write.
        settings: How the scene is read and segmented.
        refine: Improves the labels when all are computed, with the whole image in memory.

    Attributes:
        plan: How the scene is segmented; of an interrupted run, the plan that it was begun with.
        size: (height, width) of the image, in pixels.
        sight: The size at which the network sees it, by the segmenter's card; what is written has the image's size.
        folder: The folder of the unfinished results.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, see `open_source`; the memory is too little, for computing or for refining; or a
            run of another image or with other settings was interrupted here.

    Examples:
        >>> from pathlib import Path
        >>> import segscape
        >>> segmenter = segscape.Segmenter.from_weights("scapenet_lite0.aerial")
        >>> files = segscape.SceneFiles(labels=Path("labels.tif"), polygons=Path("classes.gpkg"))
        >>> settings = segscape.SceneSettings(memory=8_000_000_000)
        >>> with segscape.Scene(segmenter, Path("scene.tif"), files, settings) as scene:
        ...     shares = scene.run(on_progress=lambda share: None)
        >>> scene.size, round(sum(shares.values()), 6)
        ((120, 160), 1.0)
    """

    def __init__(
        self,
        segmenter: Segmenter,
        image: Path,
        files: SceneFiles,
        settings: SceneSettings,
        *,
        refine: Refine | None = None,
    ) -> None:
        self._segmenter, self._files, self._refine, self._memory = segmenter, files, refine, settings.memory
        self._source = open_source(image, bands=settings.bands, scaling=settings.scaling, nodata=settings.nodata)
        self.size = self._source.size
        self.sight = sight_of(segmenter.card, self._source)
        check_place(files, image, self._source.georeference)
        check_runtime(segmenter.runtime, image, size=self.size, seen=self.sight.size, views=settings.views)
        refined_bytes = 0 if refine is None else math.prod(self.size) * _REFINING_BYTES_PER_PIXEL
        if refined_bytes > settings.memory:
            raise ValueError(
                f"{image} is too large to be refined: that would take {refined_bytes / 1e9:.1f} GB beside the "
                "refiner's own memory; leave out --refine, or raise --max-memory."
            )
        self.folder = files.labels.with_name(f".{files.labels.name}.unfinished")
        self._check_room = partial(
            check_room, files, self.folder, size=self.size, num_classes=segmenter.card.num_classes
        )
        if not self.resumed:
            # Before planning, which takes long for scenes that are far too large.
            self._check_room()
        stamp = image.stat()
        self._run_signature: dict[str, Any] = {
            "image": [str(image.resolve()), stamp.st_size, stamp.st_mtime_ns],
            "weights": segmenter.fingerprint,
            "settings": {key: value for key, value in asdict(settings).items() if key != "memory"},
            "outputs": [files.confidence is not None, files.scores is not None],
            "working_size": list(self.sight.size),
            "computed_by": [__version__, *segmenter.computed_by],
        }
        # An interrupted run is resumed with its own plan, though another might suit the memory free today.
        earlier = Journal.signature_of(self.folder / _JOURNAL)
        plan = None
        if earlier is not None:
            Journal.check_signature(self.folder / _JOURNAL, earlier, self._run_signature)
            # What is no plan, the journal will be refused for.
            with suppress(ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
                plan = restored(segmenter.deployed, self.size, earlier["plan"])
        if plan is not None and [geometry.view for geometry in plan.geometries] == list(settings.views):
            self.plan = plan
        else:
            # The budget is the whole process's on a CPU; on a GPU it is that of the device alone.
            of_cpu = segmenter.device.type == "cpu"
            self.plan = plan_scene(
                segmenter.deployed,
                self.size,
                memory=round(settings.memory * (1 - _SPARE_MEMORY_SHARE)),
                taken=lambda: round(resident() * (1 - _SPARE_MEMORY_SHARE)) if of_cpu else 0,
                storage=round(free_disk(self.folder) * _MOST_DISK_SHARE),
                context="window" if segmenter.runtime.size else settings.context,
                window=segmenter.runtime.size or segmenter.card.training_size,
                views=settings.views,
                working=self.sight.size,
                can_stream=segmenter.streams,
            )
        self._run_signature["plan"] = self.plan.settings()
        self._journal: Journal | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()
        if self._journal is None:
            return
        self._journal.close()
        nothing_done = isinstance(error, OSError) and not self._journal.done
        if isinstance(error, ValueError) or nothing_done:
            # After a ValueError there is nothing to resume: a damaged image stays damaged.
            self._discard()

    def release(self) -> None:
        """Close the image and free what was decoded of it; a later read opens it again."""
        self._source.close()

    @property
    def resumed(self) -> bool:
        """Whether there are unfinished results of an interrupted run."""
        return (self.folder / _JOURNAL).exists()

    @property
    def journal(self) -> Journal:
        """The journal of the finished tasks; this process holds its lock until the scene is left.

        Raises:
            ValueError: The unfinished results are of another run, or another process is at work on them.
            OSError: The disk has no room for the results and the intermediate files.
        """
        return self._opened[0]

    @property
    def worker(self) -> Worker:
        """The worker that does the scene's tasks; raises as `journal` does."""
        return self._opened[1]

    def create_worker(self) -> Worker:
        """Create a worker that does the scene's tasks for another process, which holds the journal.

        Raises:
            OSError: The disk has no room for the files that it writes to.
        """
        return WorkerSequence([*self._networks(), LabelWriter(self._logits, self._arrays)])

    @cached_property
    def _opened(self) -> tuple[Journal, Worker]:
        """The journal and the worker, whose files must be those that the journal tells of."""
        if not self.resumed:
            self._check_room(storage=self.plan.storage)
        journal = self._journal = Journal(self.folder / _JOURNAL, self._run_signature)
        before = {path: path.lstat().st_size for path in self.folder.iterdir() if path.name != _JOURNAL}
        if not journal.done:
            # Whatever they hold, no task is said to have written it.
            for path in before:
                path.unlink()
        # It creates the files that are missing.
        worker = self.create_worker()
        lost = [path.name for path in self.folder.iterdir() if path.name != _JOURNAL and not before.get(path)]
        unknown = journal.done.keys() - {task for sweep in worker.tasks() for task in sweep}
        if journal.done and (lost or unknown):
            what = f"files of an interrupted run are lost ({lost[0]})" if lost else "an interrupted run had other tasks"
            _log.warning("%s: %s; the scene is begun anew.", self.folder, what)
            journal.restart(self._run_signature)
        return journal, worker

    def run(self, *, on_progress: Callable[[float], None]) -> dict[str, float]:
        """Do the tasks that are not done yet, and write all files.

        Args:
            on_progress: Called with the share of the work that is done, from 0 to 1.

        Returns:
            The share of each class among the pixels that hold data, by name.

        Raises:
            ValueError: The image is damaged, or the unfinished results are of another run.
            OSError: A file cannot be written.
        """
        # Memory that the process may hold between two steps: what the plan takes, with its reserve, must fit beside it.
        # Above that, what one step has freed is returned to the system, lest it add to what the next one takes.
        free = round(
            min(self._memory - self.plan.memory / (1 - _SPARE_MEMORY_SHARE), self._memory * (1 - _SPARE_MEMORY_SHARE))
        )

        def tell(share: float) -> None:
            give_back_above(free)
            on_progress(share)

        # The journal first, as `__exit__` removes the folder after a failure only if the journal was opened.
        journal = self.journal
        run_tasks(self.worker, journal, on_progress=tell)
        return self.finish()

    def finish(self) -> dict[str, float]:
        """Write the files of a scene whose tasks are all done.

        Returns:
            See `run`.

        Raises:
            OSError: A file cannot be written.
        """
        shares = write_files(self._files, self._arrays, self._source, self._segmenter.card, refine=self._refine)
        self._discard()
        return shares

    def _discard(self) -> None:
        """Remove the folder, the journal first: it would record results that are removed already."""
        (self.folder / _JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def _arrays(self) -> OutputArrays:
        def array(name: str, *channels: int) -> ScratchArray:
            return ScratchArray(self.folder / name, (*self.size, *channels), "uint8")

        files = self._files
        return OutputArrays(
            array("labels"),
            None if files.confidence is None else array("confidence"),
            None if files.scores is None else array("scores", self._segmenter.card.num_classes),
        )

    @cached_property
    def _logits(self) -> list[Logits]:
        """The logits of each view."""
        return [
            Logits(
                self.folder / f"view{number}.logits",
                self.plan.tiling,
                geometry,
                self._segmenter.device,
                class_order=self._segmenter.card.mirrored_classes if geometry.view.mirrored else None,
            )
            for number, geometry in enumerate(self.plan.geometries)
        ]

    def _networks(self) -> list[Worker]:
        """Create the workers that compute the logits of each view."""
        # The memory of a scene is limited, so freed blocks are not kept for reuse as for photographs.
        return_freed()
        plan, segmenter = self.plan, self._segmenter
        workers: list[Worker] = []
        for number, (geometry, logits) in enumerate(zip(plan.geometries, self._logits, strict=True)):
            images_of = partial(
                Images, self._source, geometry=geometry, normalise=segmenter.card.normalisation, device=segmenter.device
            )
            if plan.streams:
                stream = StreamingWorker(
                    plan.streams[number],
                    images=images_of(Window(0, 0, *self.size)),
                    logits=logits,
                    path=self.folder / f"view{number}",
                    device=segmenter.device,
                    convolutions=segmenter.runtime.layers if isinstance(segmenter.runtime, WinogradRuntime) else {},
                )
                workers.append(stream)
            else:
                tiling = TilingWorker(
                    segmenter.runtime,
                    plan.tiling,
                    batch=plan.batch,
                    geometry=geometry,
                    images_of=images_of,
                    logits=logits,
                )
                workers.append(tiling)
        return workers
