"""The stages of a refinement: the same network at finer and finer scales, each reading the previous one's mask.

Source: CRM, section 3.3, and the authors' test script. The image and its mask are mirrored at their borders. Every
stage reads them shrunk to its scale and is queried at points of the full size. Its probabilities are the next mask, so
only those that the next stage reads are computed: those that its downscaling needs, or all if the network is residual
and adds to the mask at the full size. The last stage leaves out the mirrored border.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segscape.geometry.interval import Interval
from segscape.geometry.receptive_field import Positions
from segscape.geometry.resample import interpolation, mirrored
from segscape.geometry.window import Window
from segscape.networks.crm import CRM, mask_logits
from segscape.normalisation import Normalisation
from segscape.refinement.decoder import decode_block
from segscape.refinement.extraction import Chain
from segscape.refinement.fusion import fuse
from segscape.refinement.plan import BlockPlan, StageAxis, around, grid
from segscape.refinement.stored_map import ABSENT, StoredMap
from segscape.refinement.workload import Workload

SCALES = (0.125, 0.25, 0.5, 1.0)
"""The scales of the stages, in their order."""
BORDER = 32
"""The number of mirrored pixels on each side of the image."""

Progress = Callable[[int, int], None]
"""A callback that takes the work done so far and the total work, in millions of multiply-accumulates."""


class Stage(NamedTuple):
    """One stage of one image.

    Attributes:
        scale: The size of the network's input relative to the padded image.
        rows: Its rows.
        cols: Its columns.
        blocks: The blocks, which contain all points that it decodes.
    """

    scale: float
    rows: StageAxis
    cols: StageAxis
    blocks: list[BlockPlan]

    @property
    def size(self) -> tuple[int, int, int]:
        """The shape of the decoded values: (rows, columns, 1)."""
        return len(self.rows.queried), len(self.cols.queried), 1

    def result(self, values: Tensor) -> StoredMap:
        """Return the decoded values, (rows, columns, 1), as a map of the padded image."""
        return StoredMap(values, *(_places(axis.queried, axis.full) for axis in (self.rows, self.cols)))


class StageInputs(NamedTuple):
    """The inputs that are the same for every stage, all mirrored at the borders.

    Attributes:
        image: (H, W, 3) uint8.
        coarse: (H, W, 1), the mask to refine, uint8 or from 0 to 1.
        band: (H, W, 1) bool, where the mask may change, or `None` for everywhere.
    """

    image: StoredMap
    coarse: StoredMap
    band: StoredMap | None

    @classmethod
    def of(cls, image: Tensor, mask: Tensor, band: Tensor | None) -> StageInputs:
        """Create the inputs from an image (H, W, 3), its mask (H, W) and a band (H, W)."""
        rows, cols = (mirrored(side, BORDER) for side in mask.shape)
        return cls(
            StoredMap(image, rows, cols),
            StoredMap(mask[..., None], rows, cols),
            None if band is None else StoredMap(band[..., None], rows, cols),
        )


class Engine:
    """Runs a network on images of any size.

    Args:
        network: Deployed, on the device and in the precisions in which it is to run; masks have the precision of its
            decoder.
        normalisation: The normalisation of the network's input images.
    """

    def __init__(self, network: CRM, normalisation: Normalisation) -> None:
        self.network = network
        self.normalisation = normalisation
        self._chain = Chain.of(network.extractor)
        self._workload = Workload(network, self._chain)
        self._dtype, self._device = network.decoder.last.weight.dtype, network.decoder.last.weight.device
        self._features_dtype = network.fusion.join.conv.weight.dtype

    def run(
        self,
        inputs: StageInputs,
        *,
        memory: float,
        scales: Sequence[float] = SCALES,
        every_point: bool = False,
        on_progress: Progress | None = None,
    ) -> Iterator[tuple[float, StoredMap]]:
        """Refine a mask.

        Args:
            inputs: The image and the mask.
            memory: Bytes that the maps and the blocks may take.
            scales: The scales of the stages, ascending.
            every_point: Whether to decode all points at every stage, not only those that are read.
            on_progress: Called after each block.

        Yields:
            The scale of each stage and its probabilities.

        Raises:
            ValueError: The memory is too small.
        """
        memory -= self._map_bytes(inputs)
        # All stages are planned before any runs, so too little memory is noticed at once and the total work is known.
        following: list[float | None] = [*scales[1:], None]
        stages = [
            self._stage(inputs, scale, [self._read(side, finer, every_point) for side in inputs.image.size], memory)
            for scale, finer in zip(scales, following, strict=True)
        ]
        report = _Report(sum(self._work(stage) for stage in stages), on_progress)
        mask, empty = inputs.coarse, False
        for stage in stages:
            empty = empty or _is_empty(mask)
            if empty:
                mask = stage.result(torch.zeros(stage.size, dtype=self._dtype, device=self._device))
                report.add(self._work(stage))
            else:
                mask = self._next_mask(inputs, stage, mask, report, memory=memory, last=stage is stages[-1])
            yield stage.scale, mask

    def _read(self, full: int, finer: float | None, every_point: bool) -> Positions:
        """Return the rows or columns of a stage's result that are read: by the next stage, or by the caller."""
        if finer is None and not every_point:
            return np.arange(BORDER, full - BORDER)
        if finer is None or every_point or self.network.residual:
            return np.arange(full)
        size = round(full * finer)
        low, high, _ = interpolation(Interval(0, size), size, full, self._dtype)
        return np.union1d(low, high)

    def _stage(self, inputs: StageInputs, scale: float, queried: Sequence[Positions], memory: float) -> Stage:
        dtype = self._features_dtype
        rows, cols = (
            StageAxis(self._chain, full=full, size=round(full * scale), queried=positions, dtype=dtype)
            for full, positions in zip(inputs.image.size, queried, strict=True)
        )
        if inputs.band is None:
            blocks = grid(rows, cols, self._workload, memory)
        else:
            wanted = inputs.band.at(rows.queried, cols.queried, torch.bool)[..., 0].cpu().numpy()
            blocks = around(rows, cols, self._workload, memory, wanted)
        return Stage(scale, rows, cols, blocks)

    def _map_bytes(self, inputs: StageInputs) -> int:
        """Return the bytes of the inputs, of the mask that a stage reads and of the one that it computes."""
        given = sum(stored.values.nbytes for stored in inputs if stored is not None)
        return given + 2 * math.prod(inputs.image.size) * self._dtype.itemsize

    def _work(self, stage: Stage) -> float:
        return sum(self._workload.macs(block.rows.counts, block.cols.counts) for block in stage.blocks)

    def _next_mask(
        self, inputs: StageInputs, stage: Stage, mask: StoredMap, report: _Report, *, memory: float, last: bool
    ) -> StoredMap:
        """Compute a stage's probabilities; all of them if those that are read leave open whether it is empty."""
        result = stage.result(self._probabilities(inputs, stage, mask, report))
        if last or result.complete or not _is_empty(result):
            return result
        # The read points alone add up to less than one pixel, but all points together may not.
        whole = self._stage(inputs, stage.scale, [np.arange(side) for side in inputs.image.size], memory)
        return whole.result(self._probabilities(inputs, whole, mask, None))

    def _probabilities(self, inputs: StageInputs, stage: Stage, mask: StoredMap, report: _Report | None) -> Tensor:
        """Compute the probabilities, (rows, cols, 1): refined within the band, those of the coarse mask elsewhere."""
        if inputs.band is None:
            result = torch.empty(stage.size, dtype=self._dtype, device=self._device)
        else:
            result = _unit(inputs.coarse.at(stage.rows.queried, stage.cols.queried, self._dtype), inputs.coarse)
        for block in stage.blocks:
            window = result[block.rows.queried, block.cols.queried, 0]
            points = stage.rows.queried[block.rows.queried], stage.cols.queried[block.cols.queried]
            projected = self._features(inputs, mask, block)
            # Without a band logits and probabilities are computed in place in the result. With a band, the result holds
            # the coarse mask, which must remain outside the band.
            logits = self._decode(projected, block, window if inputs.band is None else None)
            if self.network.residual:
                logits += mask_logits(_unit(mask.at(*points, self._dtype), mask))[..., 0]
            logits.sigmoid_()
            if inputs.band is not None:
                torch.where(inputs.band.at(*points, torch.bool)[..., 0], logits, window, out=window)
            # Otherwise it would still be held while the next block's features are computed.
            del projected
            if report is not None:
                report.add(self._workload.macs(block.rows.counts, block.cols.counts))
        return result

    def _features(self, inputs: StageInputs, mask: StoredMap, block: BlockPlan) -> Tensor:
        """Compute the block's features, projected for the decoder, (h, w, width)."""
        network, (rows, cols) = self.network, block
        branches = self._chain.run(self._crop(inputs, mask, block), rows.needs, cols.needs, network.fusion.branches)
        sizes = list(zip(self._chain.map_sizes(rows.needs.size), self._chain.map_sizes(cols.needs.size), strict=True))
        return fuse(network.fusion, network.decoder, branches, sizes, Window.of(rows.features, cols.features))

    def _crop(self, inputs: StageInputs, mask: StoredMap, block: BlockPlan) -> Tensor:
        """Return the extractor's input, (1, 4, h, w): the image, normalised, and the mask from -1 to 1."""
        rows, cols = block.rows.needs, block.cols.needs
        size, window = (rows.size, cols.size), Window.of(rows.needed[0], cols.needed[0])
        image = self.normalisation(inputs.image.resized(size, window, self._dtype).permute(2, 0, 1)[None])
        inside = _unit(mask.resized(size, window, self._dtype), mask).permute(2, 0, 1)[None]
        crop = torch.cat([image, inside.mul_(2).sub_(1)], dim=1)
        return crop.to(self._features_dtype, memory_format=torch.channels_last)

    def _decode(self, projected: Tensor, block: BlockPlan, out: Tensor | None = None) -> Tensor:
        rows, cols = (axis.points_among_features(self._device) for axis in block)
        return decode_block(self.network.decoder, projected, rows, cols, out)


class _Report:
    """The sum of the work done so far, reported to a callback."""

    def __init__(self, whole: float, on_progress: Progress | None) -> None:
        self._done, self._whole, self._on_progress = 0.0, whole, on_progress

    def add(self, macs: float) -> None:
        self._done += macs
        if self._on_progress is not None:
            self._on_progress(round(self._done / 1e6), round(self._whole / 1e6))


def _places(positions: Positions, full: int) -> Positions:
    """Return for each of `full` rows or columns its index in `positions`, or `ABSENT`."""
    places = np.full(full, ABSENT)
    places[positions] = np.arange(len(positions))
    return places


def _unit(values: Tensor, source: StoredMap) -> Tensor:
    """Scale values that were read from a mask to the range from 0 to 1, in place."""
    return values.div_(255) if source.values.dtype == torch.uint8 else values


def _is_empty(mask: StoredMap) -> bool:
    """Return whether the whole mask adds up to less than one pixel of the object, as the authors do."""
    return mask.total() < (255 if mask.values.dtype == torch.uint8 else 1)
