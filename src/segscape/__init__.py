"""Semantic segmentation of high-resolution images.

The names below are all that most programs need; each is imported when it is first used, so `import segscape` is light.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segscape.checkpoints.convert import convert_checkpoint
    from segscape.checkpoints.shipped import list_weights
    from segscape.checkpoints.store import create_model
    from segscape.cutout.cutter import CutOut, Cutter
    from segscape.networks import list_models
    from segscape.refinement.class_maps import refine_classes
    from segscape.refinement.refiner import Refinement, Refiner
    from segscape.scenes.files import SceneFiles
    from segscape.scenes.scene import Scene, SceneSettings
    from segscape.segmentation.segmenter import Segmentation, Segmenter

__version__ = "0.1.0"

# PyTorch reads this when it first needs memory: what it takes from the system it then takes in large pages, with which
# streams of blocks of all sizes are a tenth faster; see also `segscape.runtime.system_memory`.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__all__ = [
    "CutOut",
    "Cutter",
    "Refinement",
    "Refiner",
    "Scene",
    "SceneFiles",
    "SceneSettings",
    "Segmentation",
    "Segmenter",
    "convert_checkpoint",
    "create_model",
    "list_models",
    "list_weights",
    "refine_classes",
]

_HOMES = {
    "CutOut": "segscape.cutout.cutter",
    "Cutter": "segscape.cutout.cutter",
    "Refinement": "segscape.refinement.refiner",
    "Refiner": "segscape.refinement.refiner",
    "Scene": "segscape.scenes.scene",
    "SceneFiles": "segscape.scenes.files",
    "SceneSettings": "segscape.scenes.scene",
    "Segmentation": "segscape.segmentation.segmenter",
    "Segmenter": "segscape.segmentation.segmenter",
    "convert_checkpoint": "segscape.checkpoints.convert",
    "create_model": "segscape.checkpoints.store",
    "list_models": "segscape.networks",
    "list_weights": "segscape.checkpoints.shipped",
    "refine_classes": "segscape.refinement.class_maps",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segscape' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
