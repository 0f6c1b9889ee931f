"""The cost of a block: multiply-accumulates, and bytes of memory at its peak."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn

from segscape.geometry.interval import Interval
from segscape.networks.crm import CRM
from segscape.refinement.extraction import AxisNeeds, Chain

STRIP_BYTES = 160 << 20
"""Upper bound of the bytes that fusion and decoder hold besides inputs and results; they work strip by strip."""
_MEASURED_OVER_COMPUTED = 1.15
"""The ratio of measured to computed bytes; the libraries keep some for themselves."""
_PRIOR_COPIES = 4
"""Values held per point while the mask is added: the logit, the mask as stored and in floating point, its logit."""
_CROP_BYTES_PER_PIXEL = 48
"""Bytes per pixel of a crop while it is read: the image as stored, both operands of each mixture, the input."""

Counts = npt.NDArray[np.float64]
"""The numbers of rows or columns along one axis: of the crop and each link's result, of the maps, of the fused
features, of the queried points. The product of two axes' counts gives the numbers of pixels."""


def counts(needs: AxisNeeds, features: Interval, queried: int) -> Counts:
    """Return the numbers of rows or columns of a block along one axis."""
    intervals = [*needs.needed, *needs.wanted, features]
    return np.array([*(interval.length for interval in intervals), queried], np.float64)


class Workload:
    """The cost of the blocks of one network.

    Args:
        network: Deployed, in the precision in which it runs.
        chain: The chain of its extractor.
    """

    def __init__(self, network: CRM, chain: Chain) -> None:
        self._macs = self._macs_by_cell(network, chain)
        self._held = self._bytes_by_cell(network, chain)

    def macs(self, rows: Counts, cols: Counts) -> float:
        """Return the multiply-accumulates of a block, or of a grid of blocks if given the sums of their counts."""
        return float(self._macs @ (rows * cols))

    def memory(self, rows: Counts, cols: Counts) -> float:
        """Return the peak bytes of a block, besides the weights and the stored maps."""
        return float((self._held @ (rows * cols)).max()) * _MEASURED_OVER_COMPUTED + STRIP_BYTES

    @staticmethod
    def _macs_by_cell(network: CRM, chain: Chain) -> Counts:
        fusion, decoder = network.fusion, network.decoder
        hidden = _weights(decoder.hidden) + _weights(decoder.last)
        projection = fusion.channels * decoder.last.in_features
        return np.array(
            [
                0,
                *(link.macs for link in chain.links),
                *(_weights(branch) for branch in fusion.branches),
                _weights(fusion.join) + projection,
                4 * hidden,
            ],
            np.float64,
        )

    @staticmethod
    def _bytes_by_cell(network: CRM, chain: Chain) -> npt.NDArray[np.float64]:
        """Return the bytes per cell, a row for each moment: reading, every link, fusing and decoding."""
        decoder = network.decoder
        real, exact = network.fusion.join.conv.weight.element_size(), decoder.last.weight.element_size()
        widths = [
            norm.num_features
            for branch in network.fusion.branches
            for norm in branch.children()
            if isinstance(norm, nn.BatchNorm2d)
        ]
        first_map = len(chain.links) + 1
        held = np.zeros((len(chain.links) + 3, first_map + len(widths) + 2))
        held[0, 0] = _CROP_BYTES_PER_PIXEL
        for number, link in enumerate(chain.links, start=1):
            # The crop is held until the last link is done, and so are the results of the branches.
            held[number, 0] = chain.links[0].read_channels * real
            held[number, number - 1] += link.read_channels * real
            held[number, number] = link.made_channels * real
            for index, (tap, width) in enumerate(zip(chain.taps, widths, strict=True)):
                held[number, first_map + index] = width * real * (tap < number)
        held[-2, first_map : first_map + len(widths)] = np.array(widths) * real
        held[-2:, -2] = decoder.last.in_features * exact
        held[-1, -1] = exact * (_PRIOR_COPIES if network.residual else 1)
        return held


def _weights(module: nn.Module) -> int:
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear)))
