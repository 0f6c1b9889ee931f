"""The extractor's features of one block, equal to those of the whole image.

A layer near the edge of a crop reads zeros where the whole image has pixels, and its results there are wrong by as
many rows and columns as it reaches. So each layer's needs are traced back from the wanted features, layer by layer, as
far as the image goes; on the way forward what is wrong is cut off after each layer, and no later one computes with it.
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
        extent: From the first row or column of its window to the last, both included.
        stride: From one window to the next.
        padding: How far the first window begins before the map.
    """

    extent: int
    stride: int
    padding: int

    @classmethod
    def of(cls, layer: nn.Conv2d | nn.MaxPool2d) -> Kernel:
        """The kernel of a layer that is alike along both axes."""
        kernel, stride, padding, dilation = (
            int(value if isinstance(value, int) else value[0])
            for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        )
        return cls(dilation * (kernel - 1) + 1, stride, padding)

    def output_size(self, size: int) -> int:
        """How many rows or columns the result has for an input of so many."""
        return (size + 2 * self.padding - self.extent) // self.stride + 1

    def input_interval(self, wanted: Interval, size: int) -> Interval:
        """The rows or columns, of an input of so many, that the wanted ones are computed from."""
        field = strided(self.output_size(size), size, extent=self.extent, stride=self.stride, padding=self.padding)
        return field.input_interval(wanted)


@dataclass(frozen=True)
class Link:
    """A layer or a residual block of the extractor.

    Attributes:
        module: What computes it.
        kernels: Of its layers, in their order.
        macs: Multiply-accumulates for each cell of its result.
        read_channels: Of what it holds at the size of its input, the input among them.
        made_channels: Of what it holds at the size of its result, the result among them.
        channels: Of its result.
    """

    module: nn.Module
    kernels: tuple[Kernel, ...]
    macs: int
    read_channels: int
    made_channels: int
    channels: int

    @property
    def stride(self) -> int:
        """Rows of the input for each row of the result."""
        return math.prod(kernel.stride for kernel in self.kernels)

    def output_size(self, size: int) -> int:
        """How many rows or columns the result has for an input of so many."""
        for kernel in self.kernels:
            size = kernel.output_size(size)
        return size

    def input_interval(self, wanted: Interval, size: int) -> Interval:
        """What a crop needs, of an input of `size` rows or columns; it starts where a window of the whole does."""
        sizes = [size]
        for kernel in self.kernels[:-1]:
            sizes.append(kernel.output_size(sizes[-1]))
        for kernel, given in zip(reversed(self.kernels), reversed(sizes), strict=True):
            wanted = kernel.input_interval(wanted, given)
        return wanted._replace(start=wanted.start - wanted.start % self.stride)


class AxisNeeds(NamedTuple):
    """What is computed along one axis for some rows or columns of the extractor's maps.

    Attributes:
        wanted: Those rows or columns, of each map.
        needed: The rows or columns of the image, and of each link's result.
        size: How many rows or columns the whole image has.
    """

    wanted: tuple[Interval, ...]
    needed: tuple[Interval, ...]
    size: int


@dataclass(frozen=True)
class Chain:
    """The extractor, cut where its results can be trimmed.

    Attributes:
        links: In their order.
        taps: After which of them (1 for the first) each of the extractor's maps is ready.
    """

    links: tuple[Link, ...]
    taps: tuple[int, ...]

    @classmethod
    def of(cls, extractor: Extractor) -> Chain:
        """The chain of an extractor, whose layers it uses."""
        links: list[Link] = []
        taps = []
        for section, channels in zip(extractor.sections(), extractor.channels, strict=True):
            for part in section:
                links.append(_pool(part, links[-1].channels) if isinstance(part, nn.MaxPool2d) else _link(part))
            assert links[-1].channels == channels
            taps.append(len(links))
        return cls(tuple(links), tuple(taps))

    def sizes(self, size: int) -> list[int]:
        """How many rows or columns the image and each link's result have."""
        sizes = [size]
        for link in self.links:
            sizes.append(link.output_size(sizes[-1]))
        return sizes

    def map_sizes(self, size: int) -> list[int]:
        """How many rows or columns each of the extractor's maps has."""
        sizes = self.sizes(size)
        return [sizes[tap] for tap in self.taps]

    def needs(self, wanted: Sequence[Interval], size: int) -> AxisNeeds:
        """What rows or columns of the maps are computed from, for an image of so many."""
        sizes = self.sizes(size)
        needed = [wanted[-1]]
        for number in range(len(self.links), 0, -1):
            interval = self.links[number - 1].input_interval(needed[-1], sizes[number - 1])
            if number - 1 in self.taps:
                interval = interval.union(wanted[self.taps.index(number - 1)])
            needed.append(interval)
        return AxisNeeds(tuple(wanted), tuple(reversed(needed)), size)

    def run(self, crop: Tensor, rows: AxisNeeds, cols: AxisNeeds, branches: Iterable[nn.Module]) -> list[Patch]:
        """What the fusion's branches make of the maps.

        Args:
            crop: (1, 4, h, w), the image with its mask in the first of the needed rows and columns.
            rows: What `needs` gives along the rows.
            cols: The same along the columns.
            branches: One for each map. Each runs as soon as it can, since its result is smaller than its map.
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
    """The rows or columns of a link's result when it is given a crop."""
    start = given.start // link.stride
    return Interval(start, start + link.output_size(given.length))


def _pool(pool: nn.MaxPool2d, channels: int) -> Link:
    return Link(pool, (Kernel.of(pool),), 0, read_channels=channels, made_channels=channels, channels=channels)


def _link(block: nn.Module) -> Link:
    """A link of a block whose convolutions run in the order of its children; those of a shortcut lie deeper."""
    path = [layer for layer in block.children() if isinstance(layer, nn.Conv2d)]
    every = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    kernels = tuple(Kernel.of(layer) for layer in path)
    # Layers before the one with the stride, if there is one, work at the size of the input.
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
