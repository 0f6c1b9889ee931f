"""What can be chosen by name: runtimes, precisions, and the weights that each command takes by default.

They stand here, and not with what they name, for the command line: it checks its arguments before PyTorch is loaded.
"""

from __future__ import annotations

from typing import Literal

RuntimeName = Literal["torch", "winograd", "compile", "openvino", "onnx", "tensorrt"]
"""What computes; see `segscape.runtime`."""

Precision = Literal["fp32", "bf16", "fp16", "int8"]
"""The numbers that a segmentation network computes with."""

RefinerPrecision = Literal["fp32", "bf16", "fp16"]
"""The numbers that a network for refinement computes with."""

Which = Literal["averaged", "raw"]
"""Which weights of a checkpoint that holds two sets: an average over training steps, or those of the last step."""

STREET_WEIGHTS = "scapenet_lite0.street"
"""The weights of `segscape segment`, unless others are named."""

REFINER_WEIGHTS = "crm_efficientnet_lite0.objects"
"""The weights of `segscape refine`, unless others are named."""

CUTOUT_WEIGHTS = "scapenet_lite0.salient"
"""The weights that find the main object, of `segscape cutout`, unless others are named."""

TIMED_RUNS = 50
"""The runs of a figure that `segscape benchmark` times, unless told otherwise."""

WARM_UP_RUNS = 10
"""The runs before them, which do not count."""

CLASS_BAND = 2
"""The pixels beside a class's edge within which class maps are refined."""
