"""What an exported file says of itself beside its weights card, for whoever prepares its images."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["onnx", "openvino", "torch"]

SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}
"""What an exported file's name ends in, by its format; an OpenVINO file has its weights beside it in a `.bin`."""

CARD_KEY = "segscape"
GRAPH_KEY = "segscape_graph"
"""Under these keys a file holds the weights card and the metadata of its graph, each as JSON: ONNX in `metadata_props`,
OpenVINO in `rt_info`, PyTorch in `extra_files`."""

_VERSION = 1


@dataclass(frozen=True)
class GraphMetadata:
    """What must be known of an exported graph to use it.

    Attributes:
        output: `"logits"`, float32 (N, K, h, w), or `"labels"`, uint8 (N, H, W).
        size: (height, width), the only size of images that it takes, one image at a time; None if it takes others too.
        size_multiple: What both sides of the images must be multiples of, in pixels.
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
        """The metadata as a line of JSON."""
        return json.dumps({"version": _VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> GraphMetadata:
        """The metadata that `to_json` wrote.

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
    """The format that a file's suffix stands for.

    Raises:
        ValueError: It stands for none.
    """
    if path.suffix not in SUFFIXES:
        known = ", ".join(f"{suffix} ({kind})" for suffix, kind in SUFFIXES.items())
        raise ValueError(f"An exported file ends in {known}; rename {path}.")
    return SUFFIXES[path.suffix]
