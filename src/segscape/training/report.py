"""What a run leaves: checkpoints to resume from, and for people its curves, a grid of predictions and its weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.store import inference_state, write_weights
from segscape.files import atomic_path
from segscape.inference.segmenter import Segmenter
from segscape.rasters.image import write_image
from segscape.training.datamodule import SegmentationDataModule
from segscape.training.segmentation import SegmentationTask
from segscape.viz.contact_sheet import contact_sheet
from segscape.viz.overlay import colourise
from segscape.viz.plots import plot_run

_log = logging.getLogger(__name__)

_GRID_IMAGES = 4


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place and renames them, so that a killed run leaves none half-written.

    Lightning's own writer goes through the system's temporary folder, from where a move may be a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`."""
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class RunReport(L.Callback):
    """Writes `curve.png`, `predictions.png` and `weights.safetensors` when a run ends.

    The weights are those with the best validation mIoU, or the last ones where none was measured.

    Args:
        root: The run's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the finished state too, between the steps that are saved."""
        trainer.save_checkpoint(self.root / "checkpoints" / "last.ckpt", weights_only=False)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the files from the main process."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SegmentationTask)
        plot_run(self.root / "csv", self.root / "curve.png")
        self._restore_best(pl_module)
        self._write_weights(trainer, pl_module)
        self._write_grid(trainer, pl_module)
        _log.info("Curve, predictions and weights of the run are in %s.", self.root)

    def _restore_best(self, task: SegmentationTask) -> None:
        best = self.root / "checkpoints" / "best.ckpt"
        if best.is_file():
            task.load_state_dict(torch.load(best, map_location=task.device, weights_only=True)["state_dict"])

    def _write_weights(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SegmentationDataModule)
        monitors = [callback for callback in trainer.checkpoint_callbacks if getattr(callback, "monitor", None)]
        best = next((callback.best_model_score for callback in monitors), None)  # type: ignore[attr-defined]
        split = f"{task.label_spec.name} {data.val_split}"
        training = f"{task.label_spec.name} {data.train_split}, {trainer.global_step} steps"
        licence = f"that of {task.label_spec.name}"
        if task.start is not None:
            training += f", from {task.start_name} ({task.start.training})"
            licence += f"; that of {task.start_name}: {task.start.licence}"
        card = WeightsCard(
            network=task.network_name,
            class_names=task.label_spec.class_names,
            palette=task.label_spec.palette,
            normalisation=task.normalise,
            training_size=data.augmentation.crop,
            training=training,
            score={} if best is None else {"miou": float(best)},
            protocol=f"{split}: {next(iter(task.protocols.values()))}" if best is not None else "not measured",
            licence=licence,
        )
        write_weights(self.root / "weights.safetensors", card, inference_state(task.network))

    def _write_grid(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        dataset = trainer.datamodule.val_dataloader().dataset  # type: ignore[attr-defined]
        segmenter = Segmenter.from_weights(self.root / "weights.safetensors", device=task.device)
        palette = task.label_spec.palette
        rows = []
        for index in torch.linspace(0, len(dataset) - 1, min(_GRID_IMAGES, len(dataset))).int().tolist():
            sample = dataset[index]
            result = segmenter.segment(sample["image"].permute(1, 2, 0).numpy())
            labels = (colourise(indices, palette) for indices in (sample["mask"].numpy(), result.labels))
            rows.append([result.image, *labels, result.overlay()])
        titles = "image", "labels", "prediction", "overlay"
        names = task.label_spec.class_names
        sheet = contact_sheet(rows, titles=titles, class_names=names, palette=palette, cell_width=360)
        write_image(self.root / "predictions.png", sheet)
