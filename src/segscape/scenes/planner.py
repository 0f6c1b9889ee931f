"""How an image of any size is segmented: at once, streamed with the same result, or tile by tile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from segscape.networks import SegmentationNetwork
from segscape.runtime.system_memory import resident
from segscape.scenes.streaming.graph import Graph, trace
from segscape.scenes.streaming.layer import UnsupportedLayerError
from segscape.scenes.streaming.plan import StreamingPlan, TooLittleMemoryError, plan_streaming
from segscape.scenes.tiles import TilingPlan
from segscape.scenes.views import IDENTITY, View, ViewGeometry

Mode = Literal["whole", "streaming", "tiled"]
Context = Literal["scene", "window"]

_MOST_REDUCTIONS = 6
"""With more reduction passes the sweeps would cost more than any tiling."""
_DEFAULT_TILE = (1024, 1024)
_LEAST_TILE_SIDE = 256
_OVERLAP_DIVISOR = 8
"""Two tiles share this part of a tile."""
_MOST_BATCH_PIXELS = 1 << 20
"""Tiles are computed together until they have so many pixels; more in one go is no faster."""
_WORKSPACE_FACTOR = 1.35
"""What layers take beside the maps, as a factor; most takes a copy of the 67 channels that DABNet convolves on CPUs."""
_MOST_SMALL_PIXELS = 1024 * 2048
_MOST_BYTES_PER_PIXEL = 2400
"""What no network takes more of for each pixel of an image that is no larger than `_MOST_SMALL_PIXELS` pixels."""
_PROBE_SIZE = (512, 512)
"""The image by which the speed is estimated."""


@dataclass(frozen=True)
class ScenePlan:
    """What was chosen, and why.

    Attributes:
        mode: `"whole"` computes the image at once, `"streaming"` the same by blocks, `"tiled"` something close to it.
        reason: Why, in words.
        tiling: The tiles; but for `"tiled"` a single one.
        geometries: How a tile is seen in each view.
        streams: How each view is streamed, where it is.
        batch: How many tiles are computed together.
        memory: Bytes beside the program itself, estimated.
    """

    mode: Mode
    reason: str
    tiling: TilingPlan
    geometries: tuple[ViewGeometry, ...]
    streams: tuple[StreamingPlan, ...]
    batch: int
    memory: int

    @property
    def exact(self) -> bool:
        """Whether the result is that of the whole image, up to rounding."""
        return self.mode != "tiled"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image, in pixels."""
        return self.tiling.size

    @property
    def work(self) -> float:
        """Pixels through the network, those counted again that are computed again."""
        if self.streams:
            return sum(stream.macs / stream.macs_per_pixel for stream in self.streams)
        return self.tiling.count * float(sum(math.prod(geometry.padded) for geometry in self.geometries))

    @property
    def storage(self) -> int:
        """Bytes on disk of what is kept while it is computed, without the results."""
        return _logits_bytes(self.tiling, self.geometries) + sum(stream.storage for stream in self.streams)

    def settings(self) -> dict[str, Any]:
        """What `restored` needs to make the same plan again, as plain JSON."""
        return {
            "mode": self.mode,
            "reason": self.reason,
            "memory": self.memory,
            "batch": self.batch,
            "tile": self.tiling.tile,
            "overlap": self.tiling.overlap,
            "working": self.geometries[0].working,
            "looks": [geometry.view for geometry in self.geometries],
            "streams": [
                {
                    "kept": [node.name for node in stream.kept],
                    "parts": stream.parts,
                    "rows": stream.rows,
                    "memory": stream.memory,
                    "macs": stream.macs,
                }
                for stream in self.streams
            ],
        }


def plan_scene(
    network: SegmentationNetwork,
    size: tuple[int, int],
    *,
    memory: int,
    storage: int,
    taken: Callable[[], int] = lambda: 0,
    context: Context | None = "scene",
    window: tuple[int, int] | None = None,
    views: Sequence[View] = IDENTITY,
    working: tuple[int, int] | None = None,
    can_stream: bool = True,
) -> ScenePlan:
    """Choose how to segment an image.

    Args:
        network: In evaluation mode, made ready to run.
        size: (height, width) of the image, in pixels.
        memory: Bytes that may be used.
        storage: Bytes that may be used on disk for what is kept meanwhile.
        taken: Gives how many bytes of the memory the program itself takes by now; tracing a network loads a lot.
        context: What the network's global means are taken of: the `"scene"`, or each `"window"`; None for windows,
            but for a network without such means the scene, which has no seams.
        window: (height, width) of those windows, such as the training crops'; by default 1024 x 1024.
        views: The ways in which the image is seen; their results are averaged.
        working: (height, width) at which the views begin, in pixels; by default the image's own. Windows, and what the
            network takes, are of this size.
        can_stream: Whether the network's layers are at hand, which streaming computes with.

    Raises:
        TooLittleMemoryError: Not even the smallest pieces fit.
    """
    working, window = working or size, window or _DEFAULT_TILE
    if (context or _own_context(network, working, window, can_stream=can_stream)) == "window":
        tiling, seen = _tiling(size, window, working)
        geometries = _geometries(network, tiling.tile, views, seen)
        return _tiled(tiling, geometries, memory - taken(), "the network's means are to be those of windows")
    geometries = _geometries(network, size, views, working)
    whole = TilingPlan(size, size, 0)
    needed = _needed(geometries)
    if needed <= memory - taken():
        return ScenePlan("whole", "it fits into the memory", whole, geometries, (), 1, needed)
    if not can_stream:
        return _smaller(network, size, views, working, memory - taken(), "an exported network cannot be streamed")
    try:
        graphs = _graphs(network, geometries)
    except UnsupportedLayerError as error:
        reason = f"the network cannot be streamed, for {error}"
        return _smaller(network, size, views, working, memory - taken(), reason)
    reductions = graphs[geometries[0].padded].reductions
    if reductions > _MOST_REDUCTIONS:
        reason = f"streaming this network would take {reductions + 1} sweeps"
        return _smaller(network, size, views, working, memory - taken(), reason)
    left, memory = storage - _logits_bytes(whole, geometries), memory - taken()
    plans = {
        padded: plan_streaming(graph, memory=memory, storage=left // len(views)) for padded, graph in graphs.items()
    }
    streams = tuple(plans[geometry.padded] for geometry in geometries)
    reason = f"at once it would take {needed / 2**30:.1f} GiB"
    return ScenePlan("streaming", reason, whole, geometries, streams, 1, max(stream.memory for stream in streams))


def fits_at_once(network: SegmentationNetwork, size: tuple[int, int], *, memory: int) -> bool:
    """Whether an image can be computed at once.

    Args:
        network: In evaluation mode, made ready to run.
        size: (height, width) at which it is seen, in pixels.
        memory: Bytes that the whole process may take.
    """
    # A closer view takes a second or two the first time.
    if math.prod(size) <= _MOST_SMALL_PIXELS and math.prod(size) * _MOST_BYTES_PER_PIXEL <= memory - resident():
        return True
    return _needed(_geometries(network, size, IDENTITY, size)) <= memory - resident()


def restored(network: SegmentationNetwork, size: tuple[int, int], settings: Mapping[str, Any]) -> ScenePlan:
    """The plan of which these are the `settings`.

    Args:
        network: The one that was planned for.
        size: (height, width) of the image, in pixels.
        settings: As `ScenePlan.settings` gives them, or read back from JSON.
    """
    tiling = TilingPlan(size, tuple(settings["tile"]), settings["overlap"])
    geometries = _geometries(
        network, tiling.tile, [View(*view) for view in settings["looks"]], tuple(settings["working"])
    )
    graphs = _graphs(network, geometries) if settings["streams"] else {}
    streams = []
    # Without streams there are none to go with the geometries.
    for geometry, cut in zip(geometries, settings["streams"], strict=False):
        graph = graphs[geometry.padded]
        named = {node.name: node for node in graph.layers}
        kept = tuple(named[name] for name in cut["kept"])
        streams.append(StreamingPlan(graph, kept, tuple(cut["parts"]), cut["rows"], cut["memory"], cut["macs"]))
    return ScenePlan(
        settings["mode"], settings["reason"], tiling, geometries, tuple(streams), settings["batch"], settings["memory"]
    )


def seconds_per_pixel(
    network: SegmentationNetwork, run: Callable[[Tensor], Tensor], device: torch.device, *, size: tuple[int, int] | None
) -> float:
    """How long a network takes for a pixel, from running it on a small image.

    Args:
        network: Says what sizes it takes.
        run: Computes it, for images (1, 3, H, W) on `device`.
        device: Where it runs.
        size: The only (height, width) that `run` takes, in pixels; None if it takes what the network does.
    """
    images = torch.zeros(1, 3, *(size or network.fitting_size(*_PROBE_SIZE)), device=device)
    with torch.inference_mode():
        # The first run is the slowest.
        run(images)
        start = time.perf_counter()
        run(images).sum().item()
    return (time.perf_counter() - start) / math.prod(images.shape[2:])


def _own_context(
    network: SegmentationNetwork, working: tuple[int, int], window: tuple[int, int], *, can_stream: bool
) -> Context:
    """Windows where the image is larger than one, unless nothing that the network finds depends on the whole of it."""
    if all(side <= most for side, most in zip(working, window, strict=True)):
        return "scene"
    try:
        takes_means = not can_stream or trace(network, network.fitting_size(*_PROBE_SIZE)).reductions > 0
    except UnsupportedLayerError:
        takes_means = True
    return "window" if takes_means else "scene"


def _geometries(
    network: SegmentationNetwork, extent: tuple[int, int], views: Sequence[View], working: tuple[int, int]
) -> tuple[ViewGeometry, ...]:
    return tuple(ViewGeometry.of(network, extent, view, working=working) for view in views)


def _graphs(network: SegmentationNetwork, geometries: Sequence[ViewGeometry]) -> dict[tuple[int, int], Graph]:
    """The graph for each size of the images that the network is given."""
    return {padded: trace(network, padded) for padded in dict.fromkeys(geometry.padded for geometry in geometries)}


def _needed(geometries: Sequence[ViewGeometry]) -> int:
    """Bytes that computing a tile takes."""
    return round(_WORKSPACE_FACTOR * max(geometry.nbytes for geometry in geometries))


def _logits_bytes(tiling: TilingPlan, geometries: Sequence[ViewGeometry]) -> int:
    return tiling.count * sum(4 * math.prod(geometry.logits) for geometry in geometries)


def _tiling(
    size: tuple[int, int], tile: tuple[int, int], working: tuple[int, int]
) -> tuple[TilingPlan, tuple[int, int]]:
    """Tiles in the image's own pixels, and the size of each at the working size, which is `tile` or the whole side."""
    own = [max(round(side * full / seen), 1) for side, full, seen in zip(tile, size, working, strict=True)]
    height, width = (min(*sides) for sides in zip(own, size, strict=True))
    seen_height, seen_width = (min(*sides) for sides in zip(tile, working, strict=True))
    return TilingPlan(size, (height, width), min(own) // _OVERLAP_DIVISOR), (seen_height, seen_width)


def _smaller(
    network: SegmentationNetwork,
    size: tuple[int, int],
    views: Sequence[View],
    working: tuple[int, int],
    memory: int,
    reason: str,
) -> ScenePlan:
    """The scene in tiles that are as large as they may be."""
    side = _DEFAULT_TILE[0]
    while True:
        tiling, seen = _tiling(size, (side, side), working)
        geometries = _geometries(network, tiling.tile, views, seen)
        if _needed(geometries) <= memory or side <= _LEAST_TILE_SIDE:
            return _tiled(tiling, geometries, memory, f"the scene does not fit into the memory, and {reason}")
        side //= 2


def _tiled(tiling: TilingPlan, geometries: tuple[ViewGeometry, ...], memory: int, reason: str) -> ScenePlan:
    needed = _needed(geometries)
    if needed > memory:
        raise TooLittleMemoryError(needed, memory)
    largest = max(math.prod(geometry.padded) for geometry in geometries)
    batch = max(min(_MOST_BATCH_PIXELS // largest, memory // max(needed, 1), tiling.count), 1)
    return ScenePlan("tiled", reason, tiling, geometries, (), batch, batch * needed)
