"""The metadata in an exported file beside its weights card, for programs that prepare its images."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["onnx", "openvino", "torch"]

SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}
"""The format by the suffix of an exported file's name; an OpenVINO file has its weights beside it in a `.bin`."""

CARD_KEY = "segscape"
GRAPH_KEY = "segscape_graph"
"""The keys of the weights card and of the metadata of the graph in a file, each as JSON: ONNX has them in
`metadata_props`, OpenVINO in `rt_info`, PyTorch in `extra_files`."""

_VERSION = 1


@dataclass(frozen=True)
class GraphMetadata:
    """The facts about an exported graph that are needed to use it.

    Attributes:
        output: `"logits"`, float32 (N, K, h, w), or `"labels"`, uint8 (N, H, W).
        size: (height, width), the only size of images that it takes, one image at a time; None if it takes others too.
        size_multiple: The number of pixels that both sides of the images must be multiples of.
        min_size: The least side of the images, in pixels.
        stride: Pixels of the image per pixel of the logits, along each side.
        align_corners: Whether the logits are to be resized with the centres of their corner pixels on those of the
            image's; otherwise the maps' outlines coincide. Both as in PyTorch.
    """

    output: Literal["logits", "labels"]
    size: tuple[int, int] | None
    size_multiple: int
    min_size: int
    stride: int
    align_corners: bool

    def to_json(self) -> str:
        """Return the metadata as one line of JSON."""
        return json.dumps({"version": _VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> GraphMetadata:
        """Parse the metadata that `to_json` wrote.

        Raises:
            ValueError: The text is not such a line, or of another version.
        """
        try:
            fields = json.loads(text)
            version, size = fields.pop("version"), fields.pop("size")
            if version != _VERSION:
                raise ValueError(f"it is of version {version} and this program reads version {_VERSION}")
            return cls(size=None if size is None else (int(size[0]), int(size[1])), **fields)
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"what it says of its graph is damaged ({error!r})") from None


def format_of(path: Path) -> Format:
    """Return the format that a file's suffix stands for.

    Raises:
        ValueError: The suffix stands for no format.
    """
    if path.suffix not in SUFFIXES:
        known = ", ".join(f"{suffix} ({kind})" for suffix, kind in SUFFIXES.items())
        raise ValueError(f"An exported file ends in {known}; rename {path}.")
    return SUFFIXES[path.suffix]
