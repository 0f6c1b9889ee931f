"""The extractor's features of one block, equal to those of the whole image.

Near the edge of a crop a layer reads zero padding where the whole image has pixels, so the outermost rows and columns
of its result are wrong, as many as its receptive field reaches. Hence the rows and columns that each layer needs are
traced back from the wanted features, layer by layer, up to the image's borders. In the forward pass the wrong results
are cropped after each layer, before the next one reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from segscape.geometry.interval import Interval
from segscape.geometry.receptive_field import strided
from segscape.geometry.window import Patch, Window
from segscape.networks.crm import Extractor


class Kernel(NamedTuple):
    """How a convolution or a pooling reads its input along either axis.

    Attributes:
        extent: The rows or columns from the first of a window to its last, both included.
        stride: The distance from one window to the next.
        padding: The distance by which the first window begins before the map.
    """

    extent: int
    stride: int
    padding: int

    @classmethod
    def of(cls, layer: nn.Conv2d | nn.MaxPool2d) -> Kernel:
        """Return the kernel of a layer that is the same along both axes."""
        kernel, stride, padding, dilation = (
            int(value if isinstance(value, int) else value[0])
            for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        )
        return cls(dilation * (kernel - 1) + 1, stride, padding)

    def output_size(self, size: int) -> int:
        """Return the number of rows or columns of the result for an input of `size`."""
        return (size + 2 * self.padding - self.extent) // self.stride + 1

    def input_interval(self, wanted: Interval, size: int) -> Interval:
        """Return the rows or columns, of an input of `size`, from which the wanted ones are computed."""
        field = strided(self.output_size(size), size, extent=self.extent, stride=self.stride, padding=self.padding)
        return field.input_interval(wanted)


@dataclass(frozen=True)
class Link:
    """A layer or a residual block of the extractor.

    Attributes:
        module: The layer or block itself.
        kernels: The kernels of its layers, in their order.
        macs: Multiply-accumulates for each cell of its result.
        read_channels: The number of channels that it holds at the size of its input, the input's included.
        made_channels: The number of channels that it holds at the size of its result, the result's included.
        channels: The number of channels of its result.
    """

    module: nn.Module
    kernels: tuple[Kernel, ...]
    macs: int
    read_channels: int
    made_channels: int
    channels: int

    @property
    def stride(self) -> int:
        """The rows of the input for each row of the result."""
        return math.prod(kernel.stride for kernel in self.kernels)

    def output_size(self, size: int) -> int:
        """Return the number of rows or columns of the result for an input of `size`."""
        for kernel in self.kernels:
            size = kernel.output_size(size)
        return size

    def input_interval(self, wanted: Interval, size: int) -> Interval:
        """Return the part needed of an input of `size` rows or columns; it starts at a multiple of `stride`."""
        sizes = [size]
        for kernel in self.kernels[:-1]:
            sizes.append(kernel.output_size(sizes[-1]))
        for kernel, given in zip(reversed(self.kernels), reversed(sizes), strict=True):
            wanted = kernel.input_interval(wanted, given)
        # A crop that starts at a multiple of the stride has its windows where the whole input has them.
        return wanted._replace(start=wanted.start - wanted.start % self.stride)


class AxisNeeds(NamedTuple):
    """The intervals along one axis that are computed for wanted rows or columns of the extractor's maps.

    Attributes:
        wanted: The wanted rows or columns of each map.
        needed: The needed rows or columns of the image, and of each link's result.
        size: The number of rows or columns of the whole image.
    """

    wanted: tuple[Interval, ...]
    needed: tuple[Interval, ...]
    size: int


@dataclass(frozen=True)
class Chain:
    """The extractor as a sequence of links, after each of which the result can be cropped.

    Attributes:
        links: The links, in their order.
        taps: For each of the extractor's maps the number of the link (1 for the first) whose result it is.
    """

    links: tuple[Link, ...]
    taps: tuple[int, ...]

    @classmethod
    def of(cls, extractor: Extractor) -> Chain:
        """Build the chain of an extractor; the layers are shared with it."""
        links: list[Link] = []
        taps = []
        for section, channels in zip(extractor.sections(), extractor.channels, strict=True):
            for part in section:
                links.append(_pool(part, links[-1].channels) if isinstance(part, nn.MaxPool2d) else _link(part))
            assert links[-1].channels == channels
            taps.append(len(links))
        return cls(tuple(links), tuple(taps))

    def sizes(self, size: int) -> list[int]:
        """Return the numbers of rows or columns of an image of `size` and of each link's result."""
        sizes = [size]
        for link in self.links:
            sizes.append(link.output_size(sizes[-1]))
        return sizes

    def map_sizes(self, size: int) -> list[int]:
        """Return the number of rows or columns of each of the extractor's maps for an image of `size`."""
        sizes = self.sizes(size)
        return [sizes[tap] for tap in self.taps]

    def needs(self, wanted: Sequence[Interval], size: int) -> AxisNeeds:
        """Trace the wanted rows or columns of each map back through the links to those of an image of `size`."""
        sizes = self.sizes(size)
        needed = [wanted[-1]]
        for number in range(len(self.links), 0, -1):
            interval = self.links[number - 1].input_interval(needed[-1], sizes[number - 1])
            if number - 1 in self.taps:
                # Moves the end at most: the rows or columns for the coarser maps start no later, so the start remains a
                # multiple of the next link's stride.
                interval = interval.union(wanted[self.taps.index(number - 1)])
            needed.append(interval)
        return AxisNeeds(tuple(wanted), tuple(reversed(needed)), size)

    def run(self, crop: Tensor, rows: AxisNeeds, cols: AxisNeeds, branches: Iterable[nn.Module]) -> list[Patch]:
        """Compute the results of the fusion's branches on the maps, each of them in its wanted window.

        Args:
            crop: (1, 4, h, w), the image with its mask in the first of the needed rows and columns.
            rows: The result of `needs` for the rows.
            cols: The result of `needs` for the columns.
            branches: One for each map. Each runs as soon as its map is ready, since its result is smaller than the map.
        """
        x = Patch(crop, Window.of(rows.needed[0], cols.needed[0]))
        patches: list[Patch] = []
        wanted = zip(branches, rows.wanted, cols.wanted, strict=True)
        for number, link in enumerate(self.links, start=1):
            given = Window.of(*(_after(link, interval) for interval in (x.window.rows, x.window.cols)))
            x = Patch(link.module(x.values), given).cut(Window.of(rows.needed[number], cols.needed[number]))
            if number in self.taps:
                branch, *place = next(wanted)
                part = x.cut(Window.of(*place))
                patches.append(part._replace(values=branch(part.values)))
        return patches


def _after(link: Link, given: Interval) -> Interval:
    """Return the rows or columns of a link's result that it computes from a crop of its input."""
    # Exact, since a crop starts at a multiple of the stride.
    start = given.start // link.stride
    return Interval(start, start + link.output_size(given.length))


def _pool(pool: nn.MaxPool2d, channels: int) -> Link:
    return Link(pool, (Kernel.of(pool),), 0, read_channels=channels, made_channels=channels, channels=channels)


def _link(block: nn.Module) -> Link:
    """Build the link of a block whose convolutions run in the order of its children; those of a shortcut lie deeper."""
    path = [layer for layer in block.children() if isinstance(layer, nn.Conv2d)]
    every = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    kernels = tuple(Kernel.of(layer) for layer in path)
    # Layers before the strided one, if there is one, work at the size of the input.
    strided = next((number for number, kernel in enumerate(kernels) if kernel.stride > 1), 0)
    early = sum(layer.out_channels for layer in path[:strided])
    return Link(
        module=block,
        kernels=kernels,
        macs=sum(layer.weight.numel() for layer in every),
        read_channels=path[0].in_channels + early,
        made_channels=sum(layer.out_channels for layer in every) - early,
        channels=path[-1].out_channels,
    )
