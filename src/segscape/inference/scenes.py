"""Segment an image of any size from file to file, and go on where an interrupted run has stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from segscape import __version__
from segscape.inference.memory import resident
from segscape.inference.planner import Context, ScenePlan, plan_scene, restored
from segscape.inference.scene.canvas import Canvas, Painter
from segscape.inference.scene.framing import PLAIN, Look
from segscape.inference.scene.images import Images
from segscape.inference.scene.journal import Journal
from segscape.inference.scene.logits import Logits
from segscape.inference.scene.run import Stages, run_tasks
from segscape.inference.scene.task import Worker
from segscape.inference.segmenter import Segmenter
from segscape.inference.streaming.worker import StreamingWorker
from segscape.inference.tiling.worker import TilingWorker
from segscape.labels import IGNORE_INDEX
from segscape.rasters.polygons import write_polygons
from segscape.rasters.scratch import ScratchArray
from segscape.rasters.sink import write_bands, write_label_map
from segscape.rasters.source import Scaling, Source, open_source
from segscape.rasters.window import Window, windows

_SPARE = 0.15
"""The part of the memory that is left to what no estimate counts."""
_STORAGE = 0.5
"""The part of the free disk that may be taken meanwhile."""
_JOURNAL = "journal.jsonl"
_COUNTED = (1024, 4096)


@dataclass(frozen=True)
class SceneFiles:
    """What is written of a scene, and where to.

    Attributes:
        labels: `.tif` or `.png`.
        confidence: 255 times the largest probability, `.tif` or `.png`.
        scores: 255 times the probability of each class, `.tif`.
        polygons: The classes' areas, `.gpkg` or `.geojson`.
        tolerance: By how much polygons are simplified; see `segscape.rasters.polygons.write_polygons`.
    """

    labels: Path
    confidence: Path | None = None
    scores: Path | None = None
    polygons: Path | None = None
    tolerance: float = 0.0


@dataclass(frozen=True)
class SceneSettings:
    """How a scene is read and segmented.

    Attributes:
        memory: Bytes that the whole process may take.
        context: See `segscape.inference.planner.plan_scene`.
        looks: See the same.
        bands: See `segscape.rasters.source.open_source`.
        scaling: See the same.
    """

    memory: int
    context: Context = "scene"
    looks: tuple[Look, ...] = PLAIN
    bands: tuple[int, ...] | None = None
    scaling: Scaling | None = None


class Scene:
    """One image that is to be segmented.

    What is not finished lies in a hidden folder beside the labels; it goes when all files are written. While it is
    there, the same scene with the same settings goes on where it has stopped.

    Args:
        segmenter: Gives network and card.
        image: The file.
        files: What to write.
        settings: How.

    Attributes:
        plan: How it is segmented, or how an interrupted run has begun to.
        size: (height, width), in pixels.
        folder: Of what is not finished.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, see `open_source`; the memory is too little; or a run of another image or with
            other settings was interrupted here.
    """

    def __init__(self, segmenter: Segmenter, image: Path, files: SceneFiles, settings: SceneSettings) -> None:
        self._segmenter, self._files = segmenter, files
        self._source = open_source(image, bands=settings.bands, scaling=settings.scaling)
        self.size = self._source.size
        self.folder = files.labels.with_name(f".{files.labels.name}.unfinished")
        earlier = Journal.subject_of(self.folder / _JOURNAL)
        self.plan = (
            self._planned(settings) if earlier is None else restored(segmenter.deployed, self.size, earlier["plan"])
        )
        stamp = image.stat()
        self._subject = {
            "image": [str(image.resolve()), stamp.st_size, stamp.st_mtime_ns],
            "weights": segmenter.fingerprint,
            "settings": {key: value for key, value in asdict(settings).items() if key != "memory"},
            "outputs": [files.confidence is not None, files.scores is not None],
            "versions": [__version__, torch.__version__],
            "plan": self.plan.settings(),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    @property
    def resumed(self) -> bool:
        """Whether an interrupted run has left something."""
        return (self.folder / _JOURNAL).exists()

    @cached_property
    def worker(self) -> Worker:
        """Does the scene's tasks."""
        return Stages([*self._networks(), Painter(self._logits, self._canvas, class_orders=self._class_orders())])

    def journal(self) -> Journal:
        """What is done already; to be closed.

        Raises:
            ValueError: What an interrupted run has left is of something else.
        """
        return Journal(self.folder / _JOURNAL, self._subject)

    def run(self, *, on_progress: Callable[[float], None]) -> dict[str, float]:
        """Compute what is not there yet, and write all files.

        Args:
            on_progress: Called with the share of the work that is done, from 0 to 1.

        Returns:
            The share of each class among the pixels that hold data, by name.

        Raises:
            ValueError: The image is damaged, or what an interrupted run has left is of something else.
            OSError: A file cannot be written.
        """
        journal = self.journal()
        try:
            run_tasks(self.worker, journal, on_progress=on_progress)
        finally:
            journal.close()
        return self.finish()

    def finish(self) -> dict[str, float]:
        """Write the files of a scene whose tasks are all done.

        Returns:
            See `run`.

        Raises:
            OSError: A file cannot be written.
        """
        files, card, place = self._files, self._segmenter.card, self._source.georeference
        has_gaps = self._source.valid(Window(0, 0, 1, 1)) is not None
        canvas = self._canvas
        labels = _Masked(canvas.labels, self._source, IGNORE_INDEX) if has_gaps else canvas.labels
        write_label_map(
            files.labels,
            labels,
            palette=card.palette,
            class_names=card.class_names,
            georeference=place,
            nodata=IGNORE_INDEX if has_gaps else None,
        )
        if files.confidence is not None:
            assert canvas.confidence is not None
            write_bands(files.confidence, canvas.confidence, names=("confidence",), georeference=place)
        if files.scores is not None:
            assert canvas.scores is not None
            write_bands(files.scores, canvas.scores, names=card.class_names, georeference=place)
        if files.polygons is not None:
            write_polygons(
                files.polygons,
                labels,
                class_names=card.class_names,
                georeference=place,
                tolerance=files.tolerance,
                skip=(IGNORE_INDEX,),
            )
        counts = np.zeros(IGNORE_INDEX + 1, np.int64)
        for part in windows(self.size, _COUNTED):
            counts += np.bincount(labels.read(part).ravel(), minlength=len(counts))
        shares = counts[: card.num_classes] / max(counts[: card.num_classes].sum(), 1)
        shutil.rmtree(self.folder)
        return dict(zip(card.class_names, shares.tolist(), strict=True))

    def _planned(self, settings: SceneSettings) -> ScenePlan:
        place = next(folder for folder in self.folder.absolute().parents if folder.exists())
        return plan_scene(
            self._segmenter.deployed,
            self.size,
            memory=round((settings.memory - resident()) * (1 - _SPARE)),
            storage=round(shutil.disk_usage(place).free * _STORAGE),
            context=settings.context,
            window=self._segmenter.card.training_size,
            looks=settings.looks,
        )

    @cached_property
    def _canvas(self) -> Canvas:
        def array(name: str, *channels: int) -> ScratchArray:
            return ScratchArray(self.folder / name, (*self.size, *channels), "uint8")

        files = self._files
        return Canvas(
            array("labels"),
            None if files.confidence is None else array("confidence"),
            None if files.scores is None else array("scores", self._segmenter.card.num_classes),
        )

    @cached_property
    def _logits(self) -> list[Logits]:
        """Of each look."""
        return [
            Logits(self.folder / f"look{number}.logits", self.plan.tiling, framing, self._segmenter.device)
            for number, framing in enumerate(self.plan.framings)
        ]

    def _networks(self) -> list[Worker]:
        """What fills the logits of each look."""
        plan, segmenter = self.plan, self._segmenter
        workers: list[Worker] = []
        for number, (framing, logits) in enumerate(zip(plan.framings, self._logits, strict=True)):
            images_of = partial(
                Images, self._source, framing=framing, normalise=segmenter.card.normalisation, device=segmenter.device
            )
            if plan.streams:
                stream = StreamingWorker(
                    plan.streams[number],
                    images=images_of(Window(0, 0, *self.size)),
                    logits=logits,
                    path=self.folder / f"look{number}",
                    device=segmenter.device,
                )
                workers.append(stream)
            else:
                tiling = TilingWorker(
                    segmenter.deployed, plan.tiling, framing=framing, images_of=images_of, logits=logits
                )
                workers.append(tiling)
        return workers

    def _class_orders(self) -> list[list[int]]:
        """For each look, for each class the place of its logits."""
        plain = list(range(self._segmenter.card.num_classes))
        return [
            self._segmenter.card.mirrored_classes if framing.look.mirrored else plain for framing in self.plan.framings
        ]


@dataclass(frozen=True)
class _Masked:
    """Labels with another value where the image has no data."""

    labels: ScratchArray
    source: Source
    value: int

    @property
    def size(self) -> tuple[int, int]:
        return self.labels.size

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        valid = self.source.valid(window)
        labels = self.labels.read(window)
        return labels if valid is None else np.where(valid, labels, np.uint8(self.value))
