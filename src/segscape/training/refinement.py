"""The training and evaluation of a network that refines masks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric, SumMetric

from segscape.checkpoints.backbone import load_pretrained
from segscape.checkpoints.card import FOREGROUND, WeightsCard
from segscape.checkpoints.convert.file import read_weights_of
from segscape.checkpoints.shipped import find_weights
from segscape.checkpoints.store import create_model, load_inference_state
from segscape.losses import RefinementLoss, RefinementWeights
from segscape.metrics import MaskResult, MaskScores, ObjectResult, ObjectScores
from segscape.networks.crm import CRM
from segscape.refinement.refiner import Refiner
from segscape.refinement.stages import SCALES
from segscape.training.optimisers import OptimiserSettings
from segscape.training.weights import provenance, put_card

_log = logging.getLogger(__name__)

COARSE = "coarse"
"""The name of the coarse masks among the stages that are scored."""
STAGES = tuple(f"{scale:g}" for scale in SCALES)
"""The names of the stages: their scales."""
LAST = STAGES[-1]
"""The stage whose masks are the result."""
PROTOCOL = f"whole image, stages {', '.join(STAGES)}; IoU of all pixels together, mean boundary accuracy"
"""The description of how masks are refined for evaluation and scored."""

# Of the authors' evaluation, on 8-bit masks: the level above which a pixel belongs to the object, and the sum of pixels
# below which a coarse mask is too small to refine.
_LEVEL = 128
_SMALL = 1024


class RefinementTask(L.LightningModule):
    """A network that refines masks, its losses, its optimiser and its evaluation.

    Evaluation follows the authors' scripts: all stages on the whole image; soft masks truncated to 8 bits; a coarse
    mask of fewer than five white pixels stays as it is and is counted apart. By mistake their scripts keep such masks
    in square images alone; that is not followed.

    Args:
        name: The registered name of a network.
        optimiser: The recipe's optimiser and schedule; every parameter is treated alike.
        loss_weights: The weights of the losses.
        weights: A name, a weights file or an official checkpoint of this network to start from, or None.
        pretrained: `imagenet`, or where each part takes ImageNet weights from, without `weights`; see
            `load_pretrained`.
        channels_last: Keep the network's tensors channels last in memory.
        coarser_stages: The largest number of coarser stages, each at half the size of the next, whose result the
            network is trained to refine; their number is drawn for each batch. The published recipe has none; without
            them, a network trained on few images never learns to correct the errors of its own coarser stages.

    Attributes:
        monitor: The logged score by which the best checkpoint is chosen.
        results: The latest evaluation's scores: of the coarse masks as `COARSE`, and of the measured stages by name.
        object_results: The latest test's further scores of the same masks, soft as they are; empty after a validation.
        small_objects: The number of its coarse masks that were too small to refine.
        start_name: The `weights`, as they were named.
        start: Their card.

    Raises:
        FileNotFoundError: There are no such weights.
        ValueError: There is no such network, or weights do not fit it.
    """

    monitor: ClassVar[str] = "val/mba"
    pixels: Tensor

    def __init__(
        self,
        *,
        name: str,
        optimiser: OptimiserSettings,
        loss_weights: RefinementWeights = RefinementWeights(),  # noqa: B008 - frozen
        weights: str | None = None,
        pretrained: str | dict[str, str] | None = None,
        channels_last: bool = False,
        coarser_stages: int = 0,
    ) -> None:
        super().__init__()
        if optimiser.groups != "one":
            raise ValueError("A network that refines masks has one group of parameters; set optimiser.groups to one.")
        self.network_name = name
        self.start_name = weights
        self.start: WeightsCard | None = None
        net = create_model(name)
        if weights is not None:
            self.start, state = read_weights_of(name, weights)
            load_inference_state(net, state, source=find_weights(weights))
        else:
            for part, source in load_pretrained(net, name, pretrained or {}).items():
                _log.info("The %s starts from %s.", part, source)
        if channels_last:
            net.to(memory_format=torch.channels_last)
        self.network = cast("CRM", net.train())
        self.criterion = RefinementLoss(loss_weights)
        self.settings = optimiser
        self.coarser_stages = coarser_stages
        self.normalise = self.network.normalisation
        self.scores = torch.nn.ModuleList(MaskScores() for _ in (COARSE, *STAGES))
        self.object_scores = torch.nn.ModuleList(ObjectScores() for _ in (COARSE, *STAGES))
        self.small = SumMetric()
        self.results: dict[str, MaskResult] = {}
        self.object_results: dict[str, ObjectResult] = {}
        # The step at which they were measured, in a training run.
        self._measured_step: int | None = None
        self.small_objects = 0
        # Rows: coarse and refined; columns: intersection and union.
        self.register_buffer("pixels", torch.zeros(2, 2, dtype=torch.int64), persistent=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the card of the weights, with the scores if they were measured at this very step."""
        put_card(checkpoint, self.card())

    def card(self) -> WeightsCard:
        """Return the card of the weights as they are now."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        score = {}
        if self._measured_step == self.global_step:
            refined, coarse = self.results[LAST], self.results[COARSE]
            score = {"mba": refined.mba, "iou": refined.iou, "mba_coarse": coarse.mba, "iou_coarse": coarse.iou}
        return WeightsCard(
            network=self.network_name,
            normalisation=self.normalise,
            training_size=data.augmentation.crop,
            score=score,
            protocol=f"{data.measured_on('val')}: {PROTOCOL}" if score else "not measured",
            **FOREGROUND,
            **provenance(self, f"{data.folder} {data.train_split}"),
        )

    def on_fit_start(self) -> None:
        """Keep the run's seed."""
        # Now, because seeding every step replaces torch's initial seed.
        self._seed = torch.initial_seed()

    def on_train_batch_start(self, batch: dict[str, Any], batch_index: int) -> None:
        """Seed the dropout by the step, so that a resumed run draws what an uninterrupted one would have."""
        position = self.global_step * self.trainer.world_size + self.global_rank
        torch.manual_seed((self._seed * 1_000_003 + position) % 2**63)

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """Return the total loss of a batch; log every term, and the IoU of the coarse and the refined masks."""
        images, masks, truth = self.normalise(batch["image"]), signed(batch["mask"]), batch["truth"] / 255
        stages = int(torch.randint(self.coarser_stages + 1, ()))
        logits = self.network(images, self._refined_coarsely(images, masks, stages), size=truth.shape[-2:]).float()
        terms = self.criterion(logits, truth)
        self.log_dict({f"loss/{name}": value for name, value in terms.items() if name != "total"})
        self.log("loss/total", terms["total"], prog_bar=True)
        self._count(masks > 0, logits > 0, truth > 0.5)
        return terms["total"]

    @torch.no_grad()
    def _refined_coarsely(self, images: Tensor, masks: Tensor, stages: int) -> Tensor:
        """Return the masks (N, 1, H, W) after that many coarser stages, as the network would refine them now."""
        if not stages:
            return masks
        # As in an evaluation: batch normalisation by its running statistics, and no dropout.
        self.network.eval()
        height, width = images.shape[-2:]
        for halvings in range(stages, 0, -1):
            # Each stage reads the previous one's masks reduced to its own size, but returns them at full size.
            size = max(height >> halvings, 1), max(width >> halvings, 1)
            small = (F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in (images, masks))
            logits = self.network(*small, size=(height, width), masks_at_points=masks)
            masks = logits.float().sigmoid() * 2 - 1
        self.network.train()
        return masks

    def _count(self, coarse: Tensor, refined: Tensor, truth: Tensor) -> None:
        """Count the pixels of a batch, and log the IoU of all since it was last logged."""
        found = torch.stack([coarse, refined])
        overlaps = [(found & truth).flatten(1).sum(1), (found | truth).flatten(1).sum(1)]
        self.pixels += torch.stack(overlaps, dim=1)
        # Only at the steps at which Lightning writes to its loggers, so that each value covers all steps in between.
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            iou = self.pixels[:, 0] / self.pixels[:, 1].clamp(min=1)
            self.log_dict({"train/iou_coarse": iou[0], "train/iou": iou[1]})
            self.pixels.zero_()

    def configure_optimizers(self) -> Any:
        """Build the recipe's optimiser, whose learning rate is set before every step."""
        settings = self.settings
        group = {"params": list(self.network.parameters()), "lr": settings.lr, "weight_decay": settings.weight_decay}
        optimiser = settings.build([group])
        factor = settings.schedule.factor(settings.lr, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _begin(self) -> None:
        """Reset the counts, and refine with the network as it is now."""
        for score in (*self.scores, *self.object_scores):
            cast("Metric", score).reset()
        self.small.reset()
        # A refiner runs a copy of the network, with the weights that it has at this moment.
        self._refiner = Refiner(self.network, self.device)

    def on_validation_epoch_start(self) -> None:
        """Reset the counts."""
        self._begin()

    def on_test_epoch_start(self) -> None:
        """Reset the counts."""
        self._begin()

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Score a whole image: its coarse mask and the refined one."""
        # Scores are those of full precision, also where training runs in mixed precision.
        with torch.autocast(self.device.type, enabled=False):
            self._score(batch, [(LAST, self._refiner.refine(*as_arrays(batch)).probability)])

    def test_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Score a whole image: its coarse mask and that of every stage, also as soft masks."""
        with torch.autocast(self.device.type, enabled=False):
            stages = ((f"{scale:g}", found) for scale, found in self._refiner.stages(*as_arrays(batch)))
            self._score(batch, stages, as_soft=True)

    def _score(
        self, batch: dict[str, Any], stages: Iterable[tuple[str, npt.NDArray[np.float32]]], *, as_soft: bool = False
    ) -> None:
        """Score the coarse mask of a batch of one, and the masks of some stages by their probabilities (H, W)."""

        def count(name: str, levels: Tensor) -> None:
            number = (COARSE, *STAGES).index(name)
            cast("MaskScores", self.scores[number]).update(levels > _LEVEL, truth)
            if as_soft:
                cast("ObjectScores", self.object_scores[number]).update(levels / 255, truth)

        mask, truth = batch["mask"][:, 0], batch["truth"][:, 0] > _LEVEL
        small = int(mask.sum()) < _SMALL
        self.small.update(small)
        count(COARSE, mask)
        for name, probability in stages:
            levels = mask if small else torch.from_numpy(probability * 255).to(mask.device, torch.uint8)[None]
            count(name, levels)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the coarse and the refined masks, and the gain of refining."""
        self.object_results = {}
        self._log_scores("val", [LAST])

    def on_test_epoch_end(self) -> None:
        """Log the scores of the refined masks as `test/...`, and those of each stage as `test@<its name>/...`."""
        scored = (cast("ObjectScores", score) for score in self.object_scores)
        self.object_results = {name: score.compute() for name, score in zip((COARSE, *STAGES), scored, strict=True)}
        self._log_scores("test", STAGES)

    def _log_scores(self, split: str, stages: Sequence[str]) -> None:
        scored = dict(zip((COARSE, *STAGES), (cast("MaskScores", score) for score in self.scores), strict=True))
        self.results = {name: scored[name].compute() for name in (COARSE, *stages)}
        self.small_objects = int(self.small.compute())
        self._measured_step = None if self.trainer.sanity_checking else self.global_step
        coarse = self.results[COARSE]
        self.log_dict({f"{split}/iou_coarse": coarse.iou, f"{split}/mba_coarse": coarse.mba}, sync_dist=True)
        for name in stages:
            result = self.results[name]
            prefix = split if name == LAST else f"{split}@{name}"
            for score, before, after in (("iou", coarse.iou, result.iou), ("mba", coarse.mba, result.mba)):
                self.log(f"{prefix}/{score}", after, prog_bar=name == LAST, sync_dist=True)
                self.log(f"{prefix}/{score}_gain", after - before, sync_dist=True)
            if name in self.object_results:
                further = self.object_results[name]._asdict()
                self.log_dict({f"{prefix}/{score}": value for score, value in further.items()}, sync_dist=True)


def signed(masks: Tensor) -> Tensor:
    """Convert masks (N, 1, H, W) uint8 to the networks' input: -1 where they are 0, 1 where they are 255."""
    return (masks.float() / 255 - 0.5) / 0.5


def as_arrays(sample: Mapping[str, Any]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return image (H, W, 3) and coarse mask (H, W), both uint8, of a sample or of a batch of one."""
    image, mask = sample["image"], sample["mask"]
    return image.reshape(image.shape[-3:]).permute(1, 2, 0).cpu().numpy(), mask.reshape(mask.shape[-2:]).cpu().numpy()
