"""The extractor's features of one block, equal to those of the whole image.

A layer near the edge of a crop reads zeros where the whole image has pixels, and its results there are wrong by as
many lines as it reaches. So each layer's needs are traced back from the wanted features, layer by layer, as far as the
image goes; on the way forward the wrong lines are cut off after each layer, and no later one computes with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from segscape.geometry.interval import Patch, Span
from segscape.networks.crm import Extractor


class Window(NamedTuple):
    """How a convolution or a pooling reads its input along either axis.

    Attributes:
        extent: The distance of the first and the last line of a window, plus one.
        stride: The distance of two windows.
        padding: How far the first window reaches out of the map.
    """

    extent: int
    stride: int
    padding: int

    @classmethod
    def of(cls, layer: nn.Conv2d | nn.MaxPool2d) -> Window:
        """The window of a layer that is alike along both axes."""
        kernel, stride, padding, dilation = (
            int(value if isinstance(value, int) else value[0])
            for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        )
        return cls(dilation * (kernel - 1) + 1, stride, padding)

    def size(self, lines: int) -> int:
        """How many lines an input of so many lines gives."""
        return (lines + 2 * self.padding - self.extent) // self.stride + 1

    def reads(self, wanted: Span, lines: int) -> Span:
        """The lines, of an input of so many, that the wanted ones are computed from."""
        first = wanted.start * self.stride - self.padding
        last = (wanted.stop - 1) * self.stride - self.padding + self.extent
        return Span(max(first, 0), min(last, lines), lines)


@dataclass(frozen=True)
class Link:
    """A layer or a residual block of the extractor.

    Attributes:
        module: What computes it.
        windows: Of its layers, in their order.
        macs: Multiply-accumulates for each cell of its result.
        read_channels: Of what it holds at the size of its input, the input among them.
        made_channels: Of what it holds at the size of its result, the result among them.
        channels: Of its result.
    """

    module: nn.Module
    windows: tuple[Window, ...]
    macs: int
    read_channels: int
    made_channels: int
    channels: int

    @property
    def stride(self) -> int:
        """Lines of the input for each line of the result."""
        return math.prod(window.stride for window in self.windows)

    def size(self, lines: int) -> int:
        """How many lines an input of so many lines gives."""
        for window in self.windows:
            lines = window.size(lines)
        return lines

    def reads(self, wanted: Span, lines: int) -> Span:
        """The lines, of an input of so many, that a crop needs; it starts where a window of the whole does."""
        sizes = [lines]
        for window in self.windows[:-1]:
            sizes.append(window.size(sizes[-1]))
        for window, size in zip(reversed(self.windows), reversed(sizes), strict=True):
            wanted = window.reads(wanted, size)
        return wanted._replace(start=wanted.start - wanted.start % self.stride)


class Reach(NamedTuple):
    """What is computed along one axis for some lines of the extractor's maps.

    Attributes:
        wanted: Those lines, of each map.
        spans: The lines of the image, and of each link's result.
    """

    wanted: tuple[Span, ...]
    spans: tuple[Span, ...]


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

    def sizes(self, lines: int) -> list[int]:
        """The lines of the image and of each link's result."""
        sizes = [lines]
        for link in self.links:
            sizes.append(link.size(sizes[-1]))
        return sizes

    def reads(self, wanted: Sequence[Span], lines: int) -> Reach:
        """What lines of the maps are computed from, for an image of so many lines."""
        sizes = self.sizes(lines)
        spans = [wanted[-1]]
        for number in range(len(self.links), 0, -1):
            span = self.links[number - 1].reads(spans[-1], sizes[number - 1])
            if number - 1 in self.taps:
                span = span.union(wanted[self.taps.index(number - 1)])
            spans.append(span)
        return Reach(tuple(wanted), tuple(reversed(spans)))

    def run(self, crop: Tensor, rows: Reach, cols: Reach, branches: Iterable[nn.Module]) -> list[Patch]:
        """What the fusion's branches make of the maps.

        Args:
            crop: (1, 4, h, w), the image with its mask in the first of the rows' and columns' spans.
            rows: What `reads` gives along the rows.
            cols: The same along the columns.
            branches: One for each map. Each runs as soon as it can, since its result is smaller than its map.
        """
        x = Patch(crop, rows.spans[0], cols.spans[0])
        patches: list[Patch] = []
        wanted = zip(branches, rows.wanted, cols.wanted, strict=True)
        for number, link in enumerate(self.links, start=1):
            given = Patch(link.module(x.values), _after(link, x.rows), _after(link, x.cols))
            x = given.cut(rows.spans[number], cols.spans[number])
            if number in self.taps:
                branch, *place = next(wanted)
                patches.append(_mapped(branch, x.cut(*place)))
        return patches


def _mapped(module: nn.Module, patch: Patch) -> Patch:
    return patch._replace(values=module(patch.values))


def _after(link: Link, given: Span) -> Span:
    """The lines of a link's result when it is given a crop."""
    start = given.start // link.stride
    return Span(start, start + link.size(given.length), link.size(given.total))


def _pool(pool: nn.MaxPool2d, channels: int) -> Link:
    return Link(pool, (Window.of(pool),), 0, read_channels=channels, made_channels=channels, channels=channels)


def _link(block: nn.Module) -> Link:
    """A link of a block whose convolutions run in the order of its children; those of a shortcut lie deeper."""
    path = [layer for layer in block.children() if isinstance(layer, nn.Conv2d)]
    every = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    windows = tuple(Window.of(layer) for layer in path)
    # Layers before the one with the stride, if there is one, work at the size of the input.
    strided = next((number for number, window in enumerate(windows) if window.stride > 1), 0)
    early = sum(layer.out_channels for layer in path[:strided])
    return Link(
        module=block,
        windows=windows,
        macs=sum(layer.weight.numel() for layer in every),
        read_channels=path[0].in_channels + early,
        made_channels=sum(layer.out_channels for layer in every) - early,
        channels=path[-1].out_channels,
    )
