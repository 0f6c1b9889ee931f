"""Predicted labels of a whole split as files, in the form that its data set's test server or label reader takes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from segscape.training.datamodule import SegmentationDataModule
from segscape.training.segmentation import SegmentationTask

_log = logging.getLogger(__name__)


class PredictionWriter(L.Callback):
    """The callback that writes each prediction as soon as it is computed, and skips images whose file exists.

    A file appears whole or not at all, so that a stopped run can be resumed. With several processes each writes its own
    share.

    Args:
        folder: The folder to write to; it is created if it is missing.
        train_ids: Write class indices in place of the data set's raw values.

    Attributes:
        written: The files written by this process.
        kept: The files that were there already, of this process's share.
    """

    def __init__(self, folder: Path, *, train_ids: bool = False) -> None:
        self.folder = folder
        self.train_ids = train_ids
        self.written = 0
        self.kept = 0

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restrict the prediction to images without a file."""
        assert isinstance(pl_module, SegmentationTask)
        dataset = _data(trainer).dataset

        def is_wanted(name: str) -> bool:
            return not (self.folder / dataset.prediction_name(name, train_ids=self.train_ids)).is_file()

        pl_module.is_wanted = is_wanted
        _log.info("Predicting by %s.", next(iter(pl_module.protocols.values())))

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: dict[str, Tensor],
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the predictions of a step."""
        assert isinstance(pl_module, SegmentationTask)
        dataset = _data(trainer).dataset
        for name, indices in outputs.items():
            labels = indices.cpu().numpy()
            dataset.write_prediction(self.folder, name, labels, pl_module.label_spec, train_ids=self.train_ids)
        self.written += len(outputs)
        self.kept += len(batch["name"]) - len(outputs)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report how many predictions were written and how many kept."""
        kept = f"; {self.kept} were there already and are kept" if self.kept else ""
        _log.info("%d prediction(s) written to %s%s.", self.written, self.folder, kept)


def _data(trainer: L.Trainer) -> SegmentationDataModule:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, SegmentationDataModule)
    return data
