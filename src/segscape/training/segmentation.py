"""The training and evaluation of a segmentation network."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from segscape.checkpoints.convert import convert_checkpoint
from segscape.checkpoints.read import read_state_dict
from segscape.checkpoints.store import create_model, load_inference_state
from segscape.labels import LabelSpec
from segscape.losses import Criterion, LossTerm
from segscape.metrics import ConfusionMatrix, Scores, scores
from segscape.metrics.protocol import whole_image_logits
from segscape.networks import SegmentationNetwork
from segscape.normalisation import Normalisation
from segscape.training.optimisers import OptimiserSettings, parameter_groups, warmup_poly

_log = logging.getLogger(__name__)


class SegmentationTask(L.LightningModule):
    """A network, its losses, its optimiser and its evaluation protocol.

    Args:
        network: The registered name of a network.
        label_spec: The classes, those of the data module.
        losses: The recipe's losses.
        optimiser: The recipe's optimiser and schedule.
        eval_scales: The scales at which the network is evaluated; the first one's mIoU is `val/miou`.
        weights: A name or a weights file to start from, or nothing.
        backbone_checkpoint: An official ImageNet checkpoint for the network's backbone, or nothing.
        backbone_name: The registered name of that checkpoint's network.
        channels_last: Keep the network's tensors channels last in memory.

    Attributes:
        results: The latest evaluation's scores by scale.
    """

    def __init__(
        self,
        *,
        network: str,
        label_spec: LabelSpec,
        losses: list[LossTerm],
        optimiser: OptimiserSettings,
        eval_scales: list[float] | None = None,
        weights: str | None = None,
        backbone_checkpoint: str | None = None,
        backbone_name: str | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.network_name = network
        self.label_spec = label_spec
        net = create_model(network, label_spec.num_classes, weights)
        if not isinstance(net, SegmentationNetwork):
            raise ValueError(f"{network} does not segment images; `segscape models` lists those that do.")
        if backbone_checkpoint is not None:
            if backbone_name is None:
                raise ValueError("backbone_checkpoint needs backbone_name, the registered name of its network.")
            converted = convert_checkpoint(backbone_name, read_state_dict(backbone_checkpoint))
            inside = {
                key.removeprefix("backbone."): value for key, value in converted.items() if key.startswith("backbone.")
            }
            load_inference_state(net.get_submodule("backbone"), inside, source=Path(backbone_checkpoint))
        if channels_last:
            net.to(memory_format=torch.channels_last)
        self.network: SegmentationNetwork = net.train()
        self.criterion = Criterion(losses, align_corners=net.align_corners)
        self.settings = optimiser
        self.eval_scales = eval_scales or [1.0]
        self.normalise = Normalisation()
        self.results: dict[float, Scores] = {}
        self.confusions = torch.nn.ModuleList(ConfusionMatrix(label_spec.num_classes) for _ in self.eval_scales)

    def on_fit_start(self) -> None:
        """Warn of a precision that this processor can only imitate."""
        reduced = self.trainer.precision in ("bf16-mixed", "bf16-true")
        if reduced and self.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            _log.warning(
                "This CPU has no bfloat16 arithmetic and only imitates it, slowly; use --trainer.precision 32-true."
            )

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """The total loss of a batch; every term is logged."""
        output = self.network(self.normalise(batch["image"]))
        outputs = {"logits": output.logits.float(), **{name: value.float() for name, value in output.aux.items()}}
        terms = self.criterion(outputs, batch["mask"].long())
        self.log_dict({f"loss/{name}": value for name, value in terms.items() if name != "total"})
        self.log("loss/total", terms["total"], prog_bar=True)
        return terms["total"]

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, its learning rate set before every step."""
        groups = parameter_groups(self.network, self.settings, extra=self.criterion.parameters())
        optimiser = self.settings.build(groups)
        total = int(self.trainer.estimated_stepping_batches)
        factor = warmup_poly(min(self.settings.warmup_steps, total), total, self.settings.power)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_validation_epoch_start(self) -> None:
        """Begin to count anew."""
        for confusion in self.confusions:
            cast("ConfusionMatrix", confusion).reset()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Count a batch of whole images at every scale."""
        images = self.normalise(batch["image"])
        for scale, confusion in zip(self.eval_scales, self.confusions, strict=True):
            logits = whole_image_logits(self.network, images, scale=scale, align_corners=self.network.align_corners)
            cast("ConfusionMatrix", confusion).update(logits.argmax(1), batch["mask"])

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log the scores: those of the first scale as `val/...`, of another as `val@<scale>/...`."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores: those of the first scale as `test/...`, of another as `test@<scale>/...`."""
        self._log_scores("test")

    def _log_scores(self, split: str) -> None:
        for number, (scale, confusion) in enumerate(zip(self.eval_scales, self.confusions, strict=True)):
            result = scores(cast("ConfusionMatrix", confusion).compute())
            self.results[scale] = result
            prefix = split if number == 0 else f"{split}@{scale:g}"
            self.log(f"{prefix}/miou", result.miou, prog_bar=number == 0, sync_dist=True)
            self.log(f"{prefix}/pixel_accuracy", result.pixel_accuracy, sync_dist=True)
            self.log(f"{prefix}/class_accuracy", result.class_accuracy, sync_dist=True)
            for name, iou in zip(self.label_spec.class_names, result.iou, strict=True):
                self.log(f"{prefix}/iou/{name}", iou, sync_dist=True)
