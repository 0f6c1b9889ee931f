"""The stages of a refinement: the same network at finer and finer scales, each reading the mask that the last one made.

Source: CRM, section 3.3, and the authors' test script. The image and its mask are mirrored at their borders. Every
stage reads them shrunk to its scale and is asked for points at the full size. Its probabilities are the next mask, so
only those that the next stage reads are computed: what its shrinking needs, and all where the network is residual and
adds to the mask at the full size; the last stage leaves out the mirrored border.
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
"""Of the stages, in their order."""
BORDER = 32
"""Mirrored pixels on each side of the image."""

Progress = Callable[[int, int], None]
"""Called with the work that is done and with all there is, in millions of multiply-accumulates."""


class Stage(NamedTuple):
    """One stage of one image.

    Attributes:
        scale: Of what the network sees, to the padded image.
        rows: Its rows.
        cols: Its columns.
        blocks: They hold all points that it decodes.
    """

    scale: float
    rows: StageAxis
    cols: StageAxis
    blocks: list[BlockPlan]

    @property
    def size(self) -> tuple[int, int, int]:
        """The shape of what it decodes: (rows, columns, 1)."""
        return len(self.rows.queried), len(self.cols.queried), 1

    def result(self, values: Tensor) -> StoredMap:
        """The decoded values, (rows, columns, 1), in their places."""
        return StoredMap(values, *(_places(axis.queried, axis.full) for axis in (self.rows, self.cols)))


class StageInputs(NamedTuple):
    """What stays the same from stage to stage, all mirrored at the borders.

    Attributes:
        image: (H, W, 3) uint8.
        coarse: (H, W, 1), the mask to refine, uint8 or from 0 to 1.
        band: (H, W, 1) bool, where it may change, if not everywhere.
    """

    image: StoredMap
    coarse: StoredMap
    band: StoredMap | None

    @classmethod
    def of(cls, image: Tensor, mask: Tensor, band: Tensor | None) -> StageInputs:
        """The inputs of an image (H, W, 3), its mask (H, W) and a band (H, W)."""
        rows, cols = (mirrored(side, BORDER) for side in mask.shape)
        return cls(
            StoredMap(image, rows, cols),
            StoredMap(mask[..., None], rows, cols),
            None if band is None else StoredMap(band[..., None], rows, cols),
        )


class Engine:
    """Runs a network on images of any size.

    Args:
        network: Deployed, on the device and in the precisions in which it is to run; the maps have that of its decoder.
        normalisation: Of the images that the network takes.
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
            scales: Of the stages, ascending.
            every_point: Decode all points at every stage, not only those that are read.
            on_progress: Told after each block.

        Yields:
            The scale of each stage and its probabilities.

        Raises:
            ValueError: The memory is too small.
        """
        memory -= self._map_bytes(inputs)
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
        """Which rows or columns of a stage's result are read: by the next scale, or by who asked for the result."""
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
        """Of the image, of the mask that a stage reads and of the one that it makes."""
        given = sum(stored.values.nbytes for stored in inputs if stored is not None)
        return given + 2 * math.prod(inputs.image.size) * self._dtype.itemsize

    def _work(self, stage: Stage) -> float:
        return sum(self._workload.macs(block.rows.counts, block.cols.counts) for block in stage.blocks)

    def _next_mask(
        self, inputs: StageInputs, stage: Stage, mask: StoredMap, report: _Report, *, memory: float, last: bool
    ) -> StoredMap:
        """A stage's probabilities; all of them where those that are read do not tell whether they count as empty."""
        result = stage.result(self._probabilities(inputs, stage, mask, report))
        if last or result.complete or not _is_empty(result):
            return result
        whole = self._stage(inputs, stage.scale, [np.arange(side) for side in inputs.image.size], memory)
        return whole.result(self._probabilities(inputs, whole, mask, None))

    def _probabilities(self, inputs: StageInputs, stage: Stage, mask: StoredMap, report: _Report | None) -> Tensor:
        """(rows, cols, 1): refined in the stage's blocks, and between them as the coarse mask has it."""
        if inputs.band is None:
            result = torch.empty(stage.size, dtype=self._dtype, device=self._device)
        else:
            result = _unit(inputs.coarse.at(stage.rows.queried, stage.cols.queried, self._dtype), inputs.coarse)
        for block in stage.blocks:
            window = result[block.rows.queried, block.cols.queried, 0]
            points = stage.rows.queried[block.rows.queried], stage.cols.queried[block.cols.queried]
            projected = self._features(inputs, mask, block)
            logits = self._decode(projected, block, window if inputs.band is None else None)
            if self.network.residual:
                logits += mask_logits(_unit(mask.at(*points, self._dtype), mask))[..., 0]
            logits.sigmoid_()
            if inputs.band is not None:
                torch.where(inputs.band.at(*points, torch.bool)[..., 0], logits, window, out=window)
            del projected
            if report is not None:
                report.add(self._workload.macs(block.rows.counts, block.cols.counts))
        return result

    def _features(self, inputs: StageInputs, mask: StoredMap, block: BlockPlan) -> Tensor:
        """The block's features as the decoder reads them, (h, w, width)."""
        network, (rows, cols) = self.network, block
        branches = self._chain.run(self._crop(inputs, mask, block), rows.needs, cols.needs, network.fusion.branches)
        sizes = list(zip(self._chain.map_sizes(rows.needs.size), self._chain.map_sizes(cols.needs.size), strict=True))
        return fuse(network.fusion, network.decoder, branches, sizes, Window.of(rows.features, cols.features))

    def _crop(self, inputs: StageInputs, mask: StoredMap, block: BlockPlan) -> Tensor:
        """What the extractor reads, (1, 4, h, w): the image, normalised, and the mask from -1 to 1."""
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
    """Adds up the work and tells of it."""

    def __init__(self, whole: float, on_progress: Progress | None) -> None:
        self._done, self._whole, self._on_progress = 0.0, whole, on_progress

    def add(self, macs: float) -> None:
        self._done += macs
        if self._on_progress is not None:
            self._on_progress(round(self._done / 1e6), round(self._whole / 1e6))


def _places(positions: Positions, full: int) -> Positions:
    """For each of `full` rows or columns its place among some, or `ABSENT`."""
    places = np.full(full, ABSENT)
    places[positions] = np.arange(len(positions))
    return places


def _unit(values: Tensor, source: StoredMap) -> Tensor:
    """Values that were read from a mask, brought from 0 to 1."""
    return values.div_(255) if source.values.dtype == torch.uint8 else values


def _is_empty(mask: StoredMap) -> bool:
    """Whether, as the authors have it, the whole mask counts for less than one pixel of the object."""
    return mask.total() < (255 if mask.values.dtype == torch.uint8 else 1)
