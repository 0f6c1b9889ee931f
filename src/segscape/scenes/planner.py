"""The choice of how to segment an image of any size: at once, streamed with the same result, or tile by tile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

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
"""The most reduction passes of a streamed network: with more, the sweeps would cost more than any tiling."""
_LONGEST_STREAMED = 1 << 22
"""The longest side of a streamed scene, in pixels: streaming holds 16 bytes a position for every layer's receptive
fields, which the memory of its plan leaves out."""
_DEFAULT_TILE = (1024, 1024)
_LEAST_TILE_SIDE = 256
_OVERLAP_DIVISOR = 8
"""Neighbouring tiles overlap by a tile's shorter side divided by this."""
_MOST_BATCH_PIXELS = 1 << 20
"""The most pixels of a batch of tiles; larger batches are no faster."""
_WORKSPACE_FACTOR = 1.35
"""Memory with the workspace of the layers, relative to the maps alone; the largest is DABNet's on CPUs, which holds a
copy of the 67 channels that it convolves."""
_MOST_SMALL_PIXELS = 1024 * 2048
_MOST_BYTES_PER_PIXEL = 2400
"""Upper bound of the bytes that any of our networks needs per pixel, for images of at most `_MOST_SMALL_PIXELS`."""
_PROBE_SIZE = (512, 512)
"""(height, width) of the image that a network is timed and traced with."""


@dataclass(frozen=True)
class ScenePlan:
    """The chosen way to segment a scene, and the reason.

    Attributes:
        mode: `"whole"` computes the image at once, `"streaming"` the same by blocks, `"tiled"` an approximation.
        reason: The reason for the mode, in words.
        tiling: The tiles; a single one unless the mode is `"tiled"`.
        geometries: How the network sees a tile, for each view.
        streams: How each view is streamed; empty unless the mode is `"streaming"`.
        batch: The number of tiles that are computed together.
        memory: The estimated bytes needed beside the program itself.
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
        """Whether the result equals that of the whole image, up to rounding."""
        return self.mode != "tiled"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image, in pixels."""
        return self.tiling.size

    @property
    def work(self) -> float:
        """The number of pixels through the network; those computed more than once are counted each time."""
        if self.streams:
            return sum(stream.macs / stream.macs_per_pixel for stream in self.streams)
        return self.tiling.count * float(sum(math.prod(geometry.padded) for geometry in self.geometries))

    @property
    def storage(self) -> int:
        """The bytes on disk of the intermediate files (logits and kept maps), without the results."""
        return _logits_bytes(self.tiling, self.geometries) + sum(stream.storage for stream in self.streams)

    def settings(self) -> dict[str, Any]:
        """Return the settings from which `restored` recreates this plan, as plain JSON."""
        return {
            "mode": self.mode,
            "reason": self.reason,
            "memory": self.memory,
            "batch": self.batch,
            "tile": self.tiling.tile,
            "overlap": self.tiling.overlap,
            "working": self.geometries[0].working,
            "views": [geometry.view for geometry in self.geometries],
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
        memory: The bytes of memory that may be used.
        storage: The bytes on disk that may be used for intermediate files.
        taken: Returns how many bytes of the memory the program itself occupies now; tracing a network loads a lot.
        context: The area of the network's global means (global average pooling): the `"scene"`, or each `"window"`.
            With None it is windows, but the scene, which has no seams, if the image is no larger than a window or the
            network has no such means.
        window: (height, width) of those windows, such as that of the training crops; by default 1024 x 1024.
        views: The views in which the network sees the image; their results are averaged.
        working: The working size (height, width), in pixels, from which the views are scaled; by default the image's
            own size. `window` is in pixels at this size.
        can_stream: Whether the network's layers, which streaming computes with, are available.

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
    if max(working) > _LONGEST_STREAMED:
        reason = f"scenes are streamed up to sides of {_LONGEST_STREAMED:,} pixels"
        return _smaller(network, size, views, working, memory - taken(), reason)
    try:
        graphs = _graphs(network, geometries)
    except UnsupportedLayerError as error:
        reason = f"the network cannot be streamed, for {error}"
        return _smaller(network, size, views, working, memory - taken(), reason)
    reductions = graphs[geometries[0].padded].reductions
    if reductions > _MOST_REDUCTIONS:
        reason = f"streaming this network would take {reductions + 1} sweeps"
        return _smaller(network, size, views, working, memory - taken(), reason)
    # `taken` is called again, as tracing has loaded a lot. The views share the disk: all their files stay to the end.
    left, memory = storage - _logits_bytes(whole, geometries), memory - taken()
    plans = {
        padded: plan_streaming(graph, memory=memory, storage=left // len(views)) for padded, graph in graphs.items()
    }
    streams = tuple(plans[geometry.padded] for geometry in geometries)
    reason = f"at once it would take {needed / 2**30:.1f} GiB"
    return ScenePlan("streaming", reason, whole, geometries, streams, 1, max(stream.memory for stream in streams))


def fits_at_once(network: SegmentationNetwork, size: tuple[int, int], *, memory: int) -> bool:
    """Check whether the memory suffices to compute an image at once.

    Args:
        network: In evaluation mode, made ready to run.
        size: (height, width) at which the network sees the image, in pixels.
        memory: The bytes that the whole process may take.
    """
    # The bound spares small images the dry run, which takes a second or two the first time.
    if math.prod(size) <= _MOST_SMALL_PIXELS and math.prod(size) * _MOST_BYTES_PER_PIXEL <= memory - resident():
        return True
    return _needed(_geometries(network, size, IDENTITY, size)) <= memory - resident()


def restored(network: SegmentationNetwork, size: tuple[int, int], settings: Mapping[str, Any]) -> ScenePlan:
    """Recreate the plan with the given `settings`.

    Args:
        network: The network that the plan is for.
        size: (height, width) of the image, in pixels.
        settings: The result of `ScenePlan.settings`, also after a round trip through JSON.

    Raises:
        KeyError: Settings are missing.
        TypeError: Some are of another type.
        ValueError: Some have other values.
    """
    if settings["mode"] not in get_args(Mode) or not isinstance(settings["reason"], str):
        raise ValueError(f"{settings['mode']!r} is no mode, or {settings['reason']!r} no reason.")
    tile, working = _counts(settings["tile"], 2), _counts(settings["working"], 2)
    tiling = TilingPlan(size, (tile[0], tile[1]), *_counts([settings["overlap"]], 1))
    geometries = _geometries(
        network, tiling.tile, [View(*view) for view in settings["views"]], (working[0], working[1])
    )
    graphs = _graphs(network, geometries) if settings["streams"] else {}
    streams = []
    # Not strict: a plan that is not streamed has geometries, but no streams.
    for geometry, cut in zip(geometries, settings["streams"], strict=False):
        graph = graphs[geometry.padded]
        named = {node.name: node for node in graph.layers}
        kept = tuple(named[name] for name in cut["kept"])
        parts, (rows, memory) = _counts(cut["parts"], 2), _counts([cut["rows"], cut["memory"]], 2)
        streams.append(StreamingPlan(graph, kept, (parts[0], parts[1]), rows, memory, cut["macs"]))
    return ScenePlan(
        *(settings["mode"], settings["reason"], tiling, geometries, tuple(streams)),
        *_counts([settings["batch"], settings["memory"]], 2),
    )


def _counts(values: Sequence[Any], number: int) -> tuple[int, ...]:
    """Return whole numbers of which there must be so many, none below 0: a file may hold anything in their places."""
    if len(values) != number or any(type(value) is not int or value < 0 for value in values):
        raise ValueError(f"{values!r} is not {number} whole number(s).")
    return tuple(values)


def seconds_per_pixel(
    network: SegmentationNetwork, run: Callable[[Tensor], Tensor], device: torch.device, *, size: tuple[int, int] | None
) -> float:
    """Measure the seconds that a network takes per pixel, on a small image.

    Args:
        network: Determines the size of the image, unless `size` does.
        run: Computes the network for images (1, 3, H, W) on `device`.
        device: The device that it runs on.
        size: The only (height, width) that `run` takes, in pixels; None if it takes all sizes that the network does.
    """
    images = torch.zeros(1, 3, *(size or network.fitting_size(*_PROBE_SIZE)), device=device)
    with torch.inference_mode():
        # The first run is the slowest.
        run(images)
        start = time.perf_counter()
        # `item` waits for a GPU to finish.
        run(images).sum().item()
    return (time.perf_counter() - start) / math.prod(images.shape[2:])


def _own_context(
    network: SegmentationNetwork, working: tuple[int, int], window: tuple[int, int], *, can_stream: bool
) -> Context:
    """Choose windows if the image is larger than a window, unless the network has no means over the whole image."""
    if all(side <= most for side, most in zip(working, window, strict=True)):
        return "scene"
    try:
        # Tracing a small image shows whether the network has such means.
        takes_means = not can_stream or trace(network, network.fitting_size(*_PROBE_SIZE)).reductions > 0
    except UnsupportedLayerError:
        takes_means = True
    return "window" if takes_means else "scene"


def _geometries(
    network: SegmentationNetwork, extent: tuple[int, int], views: Sequence[View], working: tuple[int, int]
) -> tuple[ViewGeometry, ...]:
    return tuple(ViewGeometry.of(network, extent, view, working=working) for view in views)


def _graphs(network: SegmentationNetwork, geometries: Sequence[ViewGeometry]) -> dict[tuple[int, int], Graph]:
    """Trace the graph for each size of the network's input."""
    return {padded: trace(network, padded) for padded in dict.fromkeys(geometry.padded for geometry in geometries)}


def _needed(geometries: Sequence[ViewGeometry]) -> int:
    """Estimate the bytes that computing a tile takes, in the view that takes most."""
    # Views are computed one after the other: the memory is not the sum of theirs.
    return round(_WORKSPACE_FACTOR * max(geometry.nbytes for geometry in geometries))


def _logits_bytes(tiling: TilingPlan, geometries: Sequence[ViewGeometry]) -> int:
    return tiling.count * sum(4 * math.prod(geometry.logits) for geometry in geometries)


def _tiling(
    size: tuple[int, int], tile: tuple[int, int], working: tuple[int, int]
) -> tuple[TilingPlan, tuple[int, int]]:
    """Place tiles in the image's own pixels; also return their size at the working size: `tile`, or the whole side."""
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
    """Plan the scene in tiles of the default size, halved until they fit into the memory."""
    side = _DEFAULT_TILE[0]
    while True:
        tiling, seen = _tiling(size, (side, side), working)
        geometries = _geometries(network, tiling.tile, views, seen)
        if _needed(geometries) <= memory or side <= _LEAST_TILE_SIDE:
            # The least tiles are refused there if they do not fit either.
            return _tiled(tiling, geometries, memory, f"the scene does not fit into the memory, and {reason}")
        side //= 2


def _tiled(tiling: TilingPlan, geometries: tuple[ViewGeometry, ...], memory: int, reason: str) -> ScenePlan:
    needed = _needed(geometries)
    if needed > memory:
        raise TooLittleMemoryError(needed, memory)
    largest = max(math.prod(geometry.padded) for geometry in geometries)
    batch = max(min(_MOST_BATCH_PIXELS // largest, memory // max(needed, 1), tiling.count), 1)
    return ScenePlan("tiled", reason, tiling, geometries, (), batch, batch * needed)
