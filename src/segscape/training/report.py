"""The results of a run: checkpoints to resume from, and its curves, a grid of predictions and its weights."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from segscape.checkpoints.card import FOREGROUND, WeightsCard
from segscape.checkpoints.store import inference_state, write_weights
from segscape.files import atomic_path
from segscape.rasters.image import write_image
from segscape.refinement.refiner import Refiner
from segscape.segmentation.segmenter import Segmenter
from segscape.training.datamodule import JointDataModule, SegmentationDataModule
from segscape.training.refinement import PROTOCOL, RefinementTask, as_arrays
from segscape.training.refinement_data import RefinementDataModule
from segscape.training.segmentation import SegmentationTask
from segscape.viz.contact_sheet import contact_sheet
from segscape.viz.overlay import colourise
from segscape.viz.plots import plot_run, read_metrics

_log = logging.getLogger(__name__)

_GRID_IMAGES = 4


class AtomicCheckpoints(TorchCheckpointIO):
    """The writer of checkpoints beside their place, renamed when complete: a killed run leaves none half-written.

    Lightning's own writer uses the system's temporary folder, from where a move may be a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`."""
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class RunReport(L.Callback, ABC):
    """The report at the end of a run: `curve.png`, `predictions.png` and `weights.safetensors`.

    The weights are those with the best validation score, or the last ones where none was measured.

    Args:
        root: The run's folder.

    Attributes:
        score_name: The readable name of the score by which the best weights are chosen.
    """

    score_name: ClassVar[str]

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def write_weights(self, trainer: L.Trainer, task: Any, score: float | None) -> None:
        """Write the weights with their card; `score` is the best one, where any was measured."""

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
        plot_run(self.root / "csv", self.root / "curve.png", score=pl_module.monitor, label=self.score_name)
        best = self.root / "checkpoints" / "best.ckpt"
        if best.is_file():
            pl_module.load_state_dict(torch.load(best, map_location=pl_module.device, weights_only=True)["state_dict"])
        monitors = [callback for callback in trainer.checkpoint_callbacks if getattr(callback, "monitor", None)]
        score = next((callback.best_model_score for callback in monitors), None)  # type: ignore[attr-defined]
        self.write_weights(trainer, pl_module, None if score is None else float(score))
        write_image(self.root / "predictions.png", self.draw_grid(trainer, pl_module))
        _log.info("Curve, predictions and weights of the run are in %s.", self.root)

    @property
    def weights(self) -> Path:
        """The weights file."""
        return self.root / "weights.safetensors"


class SegmentationReport(RunReport):
    """The report on a segmentation network."""

    score_name = "mIoU"

    def write_weights(self, trainer: L.Trainer, task: SegmentationTask, score: float | None) -> None:
        """Write the weights with their card; `score` is the best mIoU, where any was measured."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SegmentationDataModule | JointDataModule)
        card = WeightsCard(
            network=task.network_name,
            class_names=task.label_spec.class_names,
            palette=task.label_spec.palette,
            normalisation=task.normalise,
            training_size=data.augmentation.crop,
            working_size=task.working_size,
            working_resolution=task.working_resolution,
            score={} if score is None else {"miou": score},
            protocol="not measured"
            if score is None
            else f"{data.described('val')}: {next(iter(task.protocols.values()))}",
            **_provenance(task, data.described("train"), trainer.global_step),
        )
        write_weights(self.weights, card, inference_state(task.network))

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

    def write_weights(self, trainer: L.Trainer, task: RefinementTask, score: float | None) -> None:
        """Write the weights with their card; `score` is the best mBA, where any was measured."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, RefinementDataModule)
        card = WeightsCard(
            network=task.network_name,
            normalisation=task.normalise,
            training_size=data.augmentation.crop,
            score={} if score is None else self._best_scores(score),
            protocol=f"{data.measured_on('val')}: {PROTOCOL}" if score is not None else "not measured",
            **FOREGROUND,
            **_provenance(task, f"{data.folder} {data.train_split}", trainer.global_step),
        )
        write_weights(self.weights, card, task.network.state_dict())

    def _best_scores(self, mba: float) -> dict[str, float]:
        """Return the scores, refined and coarse, of the validation at which the mBA was this one."""
        logged = {name: dict(points) for name, points in read_metrics(self.root / "csv").items()}
        step = min(logged["val/mba"], key=lambda step: abs(logged["val/mba"][step] - mba))
        names = "mba", "iou", "mba_coarse", "iou_coarse"
        return {name: logged[f"val/{name}"][step] for name in names}

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


def _provenance(task: SegmentationTask | RefinementTask, trained_on: str, steps: int) -> dict[str, Any]:
    """Return a card's `training` and `licence`, with those of the weights that the run started from."""
    training, licence = f"{trained_on}, {steps} steps", f"that of {trained_on}"
    if task.start is not None:
        training += f", from {task.start_name} ({task.start.training})"
        licence += f"; that of {task.start_name}: {task.start.licence}"
    return {"training": training, "licence": licence}


def _spread(dataset: Any) -> list[Any]:
    """Return a few samples of a data set, evenly spread."""
    count = min(_GRID_IMAGES, len(dataset))
    return [dataset[index] for index in torch.linspace(0, len(dataset) - 1, count).int().tolist()]
