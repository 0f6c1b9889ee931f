"""The results of a run: checkpoints to resume from, and its curves, a grid of predictions and its weights."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from segscape.files import write_from_memory
from segscape.rasters.image import write_image
from segscape.refinement.refiner import Refiner
from segscape.segmentation.segmenter import Segmenter
from segscape.training.refinement import RefinementTask, as_arrays
from segscape.training.segmentation import SegmentationTask
from segscape.training.weights import export_weights
from segscape.viz.contact_sheet import contact_sheet
from segscape.viz.overlay import colourise
from segscape.viz.plots import plot_run

_log = logging.getLogger(__name__)

_GRID_IMAGES = 4


class AtomicCheckpoints(TorchCheckpointIO):
    """The writer of checkpoints beside their place, renamed when complete: a killed run leaves none half-written.

    Lightning's own writer uses the system's temporary folder, from where a move may be a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`."""
        write_from_memory(Path(path), partial(torch.save, checkpoint))


class RunReport(L.Callback, ABC):
    """The report at the end of a run: `curve.png`, `predictions.png` and `weights.safetensors`.

    The weights are those with the best validation score, or the last ones where none was measured. Those that are best
    by another protocol are in `weights@<its name>.safetensors`.

    Args:
        root: The run's folder.

    Attributes:
        score_name: The readable name of the score by which the best weights are chosen.
    """

    score_name: ClassVar[str]

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def draw_grid(self, trainer: L.Trainer, task: Any) -> npt.NDArray[np.uint8]:
        """Draw the predictions of the written weights on a few validation images, (H, W, 3) uint8."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the final state too, as it may lie between the steps that are saved."""
        trainer.save_checkpoint(self.root / "checkpoints" / "last.ckpt", weights_only=False)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the files from the main process."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SegmentationTask | RefinementTask)
        if any(isinstance(logger, CSVLogger) for logger in trainer.loggers):
            plot_run(self.root / "csv", self.root / "curve.png", score=pl_module.monitor, label=self.score_name)
        checkpoints = self.root / "checkpoints"
        found = sorted(checkpoints.glob("best*.ckpt")) or sorted(checkpoints.glob("last.ckpt"))
        if not found:
            _log.warning("The run was stopped before its first step; there are no weights to write.")
            return
        for checkpoint in found:
            name = checkpoint.stem.removeprefix("best").removeprefix("last")
            export_weights(checkpoint, self.root / f"weights{name}.safetensors", default=pl_module.card())
        write_image(self.root / "predictions.png", self.draw_grid(trainer, pl_module))
        _log.info("Curve, predictions and weights of the run are in %s.", self.root)

    @property
    def weights(self) -> Path:
        """The weights file."""
        return self.root / "weights.safetensors"


class SegmentationReport(RunReport):
    """The report on a segmentation network."""

    score_name = "mIoU"

    def draw_grid(self, trainer: L.Trainer, task: SegmentationTask) -> npt.NDArray[np.uint8]:
        """Draw image, labels, prediction and overlay of a few validation images."""
        segmenter = Segmenter.from_weights(self.weights, device=task.device)
        palette = task.label_spec.palette
        rows = []
        for dataset, spec in trainer.datamodule.shown:  # type: ignore[attr-defined]
            for sample in _spread(dataset):
                result = segmenter.segment(sample["image"].permute(1, 2, 0).numpy())
                labels = colourise(sample["mask"].numpy(), spec.palette), colourise(result.labels, palette)
                rows.append([result.image, *labels, result.overlay()])
        titles = "image", "labels", "prediction", "overlay"
        names = task.label_spec.class_names
        return contact_sheet(rows, titles=titles, class_names=names, palette=palette, cell_width=360)


class RefinementReport(RunReport):
    """The report on a network that refines masks."""

    score_name = "mBA"

    def draw_grid(self, trainer: L.Trainer, task: RefinementTask) -> npt.NDArray[np.uint8]:
        """Draw image, coarse mask, refined mask and truth of a few pairs."""
        refiner = Refiner.from_weights(self.weights, device=task.device)
        rows = []
        for sample in _spread(trainer.datamodule.shown):  # type: ignore[attr-defined]
            image, mask = as_arrays(sample)
            refined = (refiner.refine(image, mask).probability * 255).astype(np.uint8)
            greys = mask, refined, sample["truth"][0].numpy()
            rows.append([image, *(np.stack([grey] * 3, axis=-1) for grey in greys)])
        titles = "image", "coarse mask", "refined", "truth"
        return contact_sheet(rows, titles=titles, cell_width=360)


def _spread(dataset: Any) -> list[Any]:
    """Return a few samples of a data set, evenly spread."""
    count = min(_GRID_IMAGES, len(dataset))
    return [dataset[index] for index in torch.linspace(0, len(dataset) - 1, count).int().tolist()]
