"""The training and evaluation of a segmentation network."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import lightning as L
import torch
from torch import Tensor

from segscape.checkpoints.backbone import load_pretrained
from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.convert.file import read_weights_of
from segscape.checkpoints.shipped import find_weights
from segscape.checkpoints.store import create_model, load_inference_state
from segscape.checkpoints.transfer import transfer
from segscape.evaluation.protocols import EvaluationProtocol, score_maps
from segscape.labels import IGNORE_INDEX, ClassMapping, LabelSpec
from segscape.losses import Criterion, CrossEntropy, LossTerm
from segscape.metrics import ConfusionMatrix, Scores, scores
from segscape.networks import SegmentationNetwork
from segscape.runtime.system_memory import reuse_freed
from segscape.training.optimisers import OptimiserSettings, parameter_groups
from segscape.training.weights import provenance, put_card

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measurement:
    """The scores of one data set by one protocol.

    Attributes:
        classes: The classes of the data set, in which it was measured.
        protocol: The protocol's name.
        scores: The scores.
    """

    classes: ClassMapping
    protocol: str
    scores: Scores


def default_losses(network: SegmentationNetwork) -> list[LossTerm]:
    """Return cross entropy over the labelled pixels: of the logits, and with weight 0.4 of each auxiliary logits."""
    auxiliary = [LossTerm(name, CrossEntropy(), 0.4) for name in network.parts.aux_logits]
    return [LossTerm("logits", CrossEntropy()), *auxiliary]


def _check_class_weights(terms: list[LossTerm], label_spec: LabelSpec) -> None:
    """Refuse a loss whose class weights are not one for each class.

    Raises:
        ValueError: There are more or fewer.
    """
    for term in terms:
        weights = getattr(term.loss, "class_weights", None)
        if weights is not None and len(weights) != label_spec.num_classes:
            raise ValueError(
                f"The loss of {term.outputs[0]} has {len(weights)} class weights, and {label_spec.name} has "
                f"{label_spec.num_classes} classes ({', '.join(label_spec.class_names)}); give one weight for each."
            )


def _leave_out_heads(network: SegmentationNetwork, terms: list[LossTerm]) -> None:
    """Have heads that no loss acts on receive no gradient, so that several processes do not wait for theirs."""
    used = {output for term in terms for output in term.outputs}
    for head in network.parts.training_only:
        # Some give further outputs, which are named after them.
        if not any(output == head or output.startswith(f"{head}_") for output in used):
            network.get_submodule(head).requires_grad_(False)


def _load(
    network: SegmentationNetwork, name: str, weights: str, label_spec: LabelSpec
) -> tuple[WeightsCard, tuple[str, ...]]:
    """Load weights; return their card, and the entries left fresh because they belong to other classes."""
    card, state = read_weights_of(name, weights)
    if card.num_classes == label_spec.num_classes:
        # Only heads that nothing but training uses may be missing.
        load_inference_state(network, state, source=find_weights(weights))
    report = transfer(network, state)
    _log.info("%s: %s.", weights, report)
    return card, report.reshaped


class SegmentationTask(L.LightningModule):
    """A network, its losses, its optimiser and its evaluation protocols.

    Args:
        name: The registered name of a network.
        label_spec: The network's classes, those of the data module.
        maps: The mapping of the labels of each measured loader to them; by default to the same.
        unions: The unions of classes that further training labels stand for, see `segscape.losses.unions.join_unions`.
        optimiser: The recipe's optimiser and schedule.
        losses: The recipe's losses; by default `default_losses`.
        protocols: How the network is evaluated; the first one's mIoU is `val/miou`. By default whole images.
        small_classes: Names of classes whose own mean IoU is reported too, such as those of small objects.
        weights: A name, a weights file or an official checkpoint of this network to start from, or None. To train on,
            it may be for other classes: what depends on their number starts afresh.
        pretrained: `imagenet`, or where each part takes ImageNet weights from, without `weights`; see
            `load_pretrained`.
        freeze_backbone: Train only what is not the network's backbone.
        working_size: The shorter side of photographs at which the network is to see them, in pixels, for its card.
        working_resolution: The finest and the coarsest ground resolution of scenes, in metres per pixel, for its card.
        channels_last: Keep the network's tensors channels last in memory.

    Attributes:
        monitor: The logged score by which the best checkpoint is chosen.
        protocols: The protocols by name.
        results: The latest evaluation's measurements, those of the first data set and protocol first.
        is_wanted: Returns whether to predict the image of a name; by default every image is predicted.
        start_name: The `weights`, as they were named.
        start: Their card.
        untrained: The entries that depend on the number of classes and did not fit `weights`.

    Raises:
        FileNotFoundError: There are no such weights.
        ValueError: There is no such network, or weights do not fit it.
    """

    monitor: ClassVar[str] = "val/miou"

    def __init__(
        self,
        *,
        name: str,
        label_spec: LabelSpec,
        optimiser: OptimiserSettings,
        maps: tuple[ClassMapping, ...] | None = None,
        unions: tuple[tuple[int, ...], ...] = (),
        losses: list[LossTerm] | None = None,
        protocols: list[EvaluationProtocol] | None = None,
        small_classes: list[str] | None = None,
        weights: str | None = None,
        pretrained: str | dict[str, str] | None = None,
        freeze_backbone: bool = False,
        working_size: int | None = None,
        working_resolution: tuple[float, float] | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.network_name = name
        self.label_spec = label_spec
        net = create_model(name, label_spec.num_classes)
        if not isinstance(net, SegmentationNetwork):
            raise ValueError(f"{name} does not segment images; `segscape models` lists those that do.")
        self.untrained: tuple[str, ...] = ()
        self.start: WeightsCard | None = None
        self.start_name = weights
        if weights is not None:
            self.start, self.untrained = _load(net, name, weights, label_spec)
        else:
            for part, source in load_pretrained(net, name, pretrained or {}).items():
                _log.info("The %s starts from %s.", part, source)
        if channels_last:
            net.to(memory_format=torch.channels_last)
        self.network: SegmentationNetwork = net.train()
        if freeze_backbone:
            for part in net.parts.backbone:
                net.get_submodule(part).eval().requires_grad_(False)
        terms = losses or default_losses(net)
        _check_class_weights(terms, label_spec)
        _leave_out_heads(net, terms)
        self.criterion = Criterion(
            terms,
            align_corners=net.align_corners,
            unions=unions,
            of_classes=("logits", *net.parts.aux_logits),
        )
        self.working_size = working_size
        self.working_resolution = working_resolution
        self.settings = optimiser
        self.protocols = {protocol.name: protocol for protocol in protocols or [EvaluationProtocol()]}
        self.maps = maps or (ClassMapping.same(label_spec),)
        self.small_classes = _indices(label_spec, small_classes or [])
        self.normalise = net.normalisation
        self.results: list[Measurement] = []
        # The step at which they were measured, in a training run.
        self._measured_step: int | None = None
        self.is_wanted: Callable[[str], bool] = lambda name: True
        self.confusions = torch.nn.ModuleList(
            torch.nn.ModuleList(ConfusionMatrix(each.own.num_classes) for _ in self.protocols) for each in self.maps
        )

    def setup(self, stage: str) -> None:
        """Refuse to measure or predict with a classifier that was never trained.

        Raises:
            ValueError: The weights are for another number of classes, and this is no training run.
        """
        if self.untrained and stage != "fit":
            raise ValueError(
                f"The weights are not for the {self.label_spec.num_classes} classes of {self.label_spec.name}; "
                "`segscape fit` adapts them first."
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the card of the weights, with the scores if they were measured at this very step."""
        put_card(checkpoint, self.card())

    def card(self) -> WeightsCard:
        """Return the card of the weights as they are now."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        measured = self.results if self._measured_step == self.global_step else []
        first = next(iter(self.protocols))
        score = {}
        for protocol in self.protocols:
            name = "miou" if protocol == first else f"miou@{protocol}"
            of_sets = [found.scores.miou for found in measured if found.protocol == protocol]
            if of_sets:
                score[name] = sum(of_sets) / len(of_sets)
        described = "; ".join(
            str(protocol) if name == first else f"miou@{name}: {protocol}" for name, protocol in self.protocols.items()
        )
        return WeightsCard(
            network=self.network_name,
            class_names=self.label_spec.class_names,
            palette=self.label_spec.palette,
            normalisation=self.normalise,
            training_size=data.augmentation.crop,
            working_size=self.working_size,
            working_resolution=self.working_resolution,
            score=score,
            protocol=f"{data.described('val')}: {described}" if score else "not measured",
            **provenance(self, data.described("train")),
        )

    def on_fit_start(self) -> None:
        """Log how the network will be evaluated; warn of a precision that this processor only emulates."""
        for name, protocol in self.protocols.items():
            _log.info("Validation %s: %s.", name, protocol)
        reduced = self.trainer.precision in ("bf16-mixed", "bf16-true")
        if self.device.type == "cpu":
            reuse_freed()
        if reduced and self.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            _log.warning(
                "This CPU has no bfloat16 arithmetic and only imitates it, slowly; use --trainer.precision 32-true."
            )

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """Return the total loss of a batch; log every term."""
        output = self.network(self.normalise(batch["image"]))
        outputs = {"logits": output.logits.float(), **{name: value.float() for name, value in output.aux.items()}}
        terms = self.criterion(outputs, batch["mask"].long())
        self.log_dict({f"loss/{name}": value for name, value in terms.items() if name != "total"})
        self.log("loss/total", terms["total"], prog_bar=True)
        return terms["total"]

    def configure_optimizers(self) -> Any:
        """Build the recipe's optimiser, whose learning rate is set before every step."""
        groups = parameter_groups(self.network, self.settings, extra=self.criterion.parameters())
        optimiser = self.settings.build(groups)
        factor = self.settings.schedule.factor(self.settings.lr, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_validation_epoch_start(self) -> None:
        """Reset the counts."""
        for confusion in self.confusions.modules():
            if isinstance(confusion, ConfusionMatrix):
                confusion.reset()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(
        self, batch: dict[str, Any] | list[dict[str, Any]], batch_index: int, dataloader_idx: int = 0
    ) -> None:
        """Count whole images of one data set, in a batch for each size, by every protocol and in the set's classes."""
        for images in batch if isinstance(batch, list) else [batch]:
            self._count(images, dataloader_idx)

    def _count(self, batch: dict[str, Any], dataloader_idx: int) -> None:
        class_map, labels = self.maps[dataloader_idx], batch["mask"]
        left_out = [index for index, members in enumerate(class_map.members) if not members]
        if left_out:
            # The network cannot predict these classes, so its predictions there do not count against it.
            labels = labels.masked_fill(torch.isin(labels, torch.tensor(left_out, device=labels.device)), IGNORE_INDEX)
        for protocol, confusion in zip(self.protocols.values(), self._confusions_of(dataloader_idx), strict=True):
            confusion.update(self._own_classes(class_map, self._predict(protocol, batch["image"])), labels)

    def _confusions_of(self, number: int) -> list[ConfusionMatrix]:
        return cast("list[ConfusionMatrix]", list(cast("torch.nn.ModuleList", self.confusions[number])))

    test_step = validation_step

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> dict[str, Tensor]:
        """Predict by the first protocol: class indices (H, W) uint8 of the wanted images of a batch, by name."""
        protocol = next(iter(self.protocols.values()))
        images = zip(batch["name"], batch["image"], strict=True)
        return {
            name: self._predict(protocol, image.unsqueeze(0))[0].to(torch.uint8)
            for name, image in images
            if self.is_wanted(name)
        }

    @staticmethod
    def _own_classes(each: ClassMapping, predicted: Tensor) -> Tensor:
        """Convert predicted indices of the network's classes (N, H, W) to those of a data set."""
        return predicted if each.is_same else torch.tensor(each.home, device=predicted.device)[predicted]

    def _predict(self, protocol: EvaluationProtocol, images: Tensor) -> Tensor:
        flip_pairs = self.label_spec.flip_pairs
        return score_maps(protocol, self.network, images, normalise=self.normalise, flip_pairs=flip_pairs).argmax(1)

    def on_validation_epoch_end(self) -> None:
        """Log the scores: those of the first protocol as `val/...`, of another as `val@<its name>/...`.

        With several data sets, a protocol's `miou` is their mean, and each one's own scores are `val/<its name>/...`.
        """
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores: those of the first protocol as `test/...`, of another as `test@<its name>/...`."""
        self._log_scores("test")

    def _log_scores(self, split: str) -> None:
        self.results = [
            Measurement(each, name, scores(confusion.compute(), excluded=each.own.excluded))
            for number, each in enumerate(self.maps)
            for name, confusion in zip(self.protocols, self._confusions_of(number), strict=True)
        ]
        self._measured_step = None if self.trainer.sanity_checking else self.global_step
        first = next(iter(self.protocols))
        prefixes = {name: split if name == first else f"{split}@{name}" for name in self.protocols}
        if len(self.maps) > 1:
            for name, prefix in prefixes.items():
                of_sets = [found.scores.miou for found in self.results if found.protocol == name]
                self.log(f"{prefix}/miou", sum(of_sets) / len(of_sets), prog_bar=name == first, sync_dist=True)
        for found in self.results:
            prefix = prefixes[found.protocol]
            if len(self.maps) > 1:
                prefix = f"{prefix}/{found.classes.own.name}"
            self._log_measurement(prefix, found, shown=prefix == split)

    def _log_measurement(self, prefix: str, found: Measurement, *, shown: bool) -> None:
        result = found.scores
        self.log(f"{prefix}/miou", result.miou, prog_bar=shown, sync_dist=True)
        self.log(f"{prefix}/pixel_accuracy", result.pixel_accuracy, sync_dist=True)
        self.log(f"{prefix}/class_accuracy", result.class_accuracy, sync_dist=True)
        if self.small_classes and found.classes.is_same:
            self.log(f"{prefix}/miou_small", result.mean_iou(self.small_classes), sync_dist=True)
        for name, iou, accuracy in zip(found.classes.own.class_names, result.iou, result.accuracy, strict=True):
            self.log(f"{prefix}/iou/{name}", iou, sync_dist=True)
            self.log(f"{prefix}/accuracy/{name}", accuracy, sync_dist=True)


def _indices(label_spec: LabelSpec, class_names: list[str]) -> tuple[int, ...]:
    """Return the indices of classes by name.

    Raises:
        ValueError: There is no such class; the message lists the names.
    """
    known = label_spec.class_names
    strange = [name for name in class_names if name not in known]
    if strange:
        raise ValueError(f"{label_spec.name} has no class {', '.join(strange)}; it has {', '.join(known)}.")
    return tuple(known.index(name) for name in class_names)
