"""What a block costs: multiply-accumulates, and bytes of memory at its worst moment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn

from segscape.geometry.interval import Interval
from segscape.networks.crm import CRM
from segscape.refinement.extraction import AxisNeeds, Chain

STRIP_BYTES = 160 << 20
"""What fusion and decoder hold at most besides their inputs and results; they work strip by strip."""
_MEASURED_OVER_COMPUTED = 1.15
"""Measured over computed bytes: what the libraries keep for themselves."""
_PRIOR_COPIES = 4
"""Values of a point while its mask is added: the logit, the mask as it came and in floating point, its own logit."""
_CROP_BYTES_PER_PIXEL = 48
"""Per pixel of a crop while it is read: the image as it came, two rows of each mixture, the network's input."""

Counts = npt.NDArray[np.float64]
"""Numbers of rows or columns along one axis: of the crop and each link's result, of the maps, of the fused features, of
the queried points. The product of two axes' counts is the numbers of pixels."""


def counts(needs: AxisNeeds, features: Interval, queried: int) -> Counts:
    """The numbers of rows or columns of a block along one axis."""
    intervals = [*needs.needed, *needs.wanted, features]
    return np.array([*(interval.length for interval in intervals), queried], np.float64)


class Workload:
    """The cost of the blocks of one network.

    Args:
        network: Deployed, in the precision in which it runs.
        chain: Of its extractor.
    """

    def __init__(self, network: CRM, chain: Chain) -> None:
        self._macs = self._macs_by_cell(network, chain)
        self._held = self._bytes_by_cell(network, chain)

    def macs(self, rows: Counts, cols: Counts) -> float:
        """Multiply-accumulates of a block, or of a grid of blocks from the sums of their counts."""
        return float(self._macs @ (rows * cols))

    def memory(self, rows: Counts, cols: Counts) -> float:
        """Bytes that a block holds at its worst moment, besides the weights and the stored maps."""
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
        """One row for each moment: reading, every link, fusing and decoding."""
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
