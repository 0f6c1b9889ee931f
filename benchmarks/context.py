"""Whether a scene's own means or those of windows give the better map, measured on a labelled drone scene.

    python benchmarks/context.py data/dronedeploy

The scene is 6900 x 4500 pixels; what counts is the strip of it that `scapenet_lite0.aerial` was not trained on, where
there are labels, in DroneDeploy's classes without clutter, for which the network has none. Writes
`benchmarks/results/context.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import segscape
from segscape.data.datasets import find_dataset
from segscape.labels import AERIAL, IGNORE_INDEX, ClassMapping
from segscape.metrics.confusion import ConfusionMatrix, scores
from segscape.rasters.image import read_labels
from segscape.runtime.system_memory import free_memory, resident
from segscape.scenes.files import SceneFiles
from segscape.scenes.scene import Scene, SceneSettings

RESULT = Path(__file__).parent / "results" / "context.json"
WEIGHTS = "scapenet_lite0.aerial"
VALIDATION = slice(1800, 3000)
WINDOWS = (256, 512, 768, 1024, 2048)
CLASSES = ClassMapping.of(find_dataset("dronedeploy").label_spec, AERIAL, {"clutter": [], "ground": ["ground", "road"]})


def main() -> None:
    """Segment the scene in each pipeline and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the sample's folder, with scene/")
    scene = parser.parse_args().data / "scene" / "ec09336a6f"
    truth = read_labels(scene.with_suffix(".png"))[:, VALIDATION]
    truth = np.where(truth == CLASSES.own.class_names.index("clutter"), IGNORE_INDEX, truth)
    segmenter = segscape.Segmenter.from_weights(WEIGHTS)
    results: dict[str, Any] = {"scene": _measured(segmenter, scene.with_suffix(".jpg"), truth, None)}
    for side in WINDOWS:
        results[f"window {side}"] = _measured(segmenter, scene.with_suffix(".jpg"), truth, side)
    RESULT.write_text(json.dumps({"weights": WEIGHTS, "torch": torch.__version__, "results": results}, indent=2) + "\n")


def _measured(segmenter: segscape.Segmenter, image: Path, truth: np.ndarray, side: int | None) -> dict[str, float]:
    """The scores of one pipeline: the means of the whole scene, or of windows of a side."""
    if side is not None:
        card = replace(segmenter.card, training_size=(side, side))
        segmenter = segscape.Segmenter(segmenter.network, card, device=segmenter.device)
    settings = SceneSettings(
        memory=resident() + free_memory(segmenter.device) // 2, context="scene" if side is None else "window"
    )
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.png"
        with Scene(segmenter, image, SceneFiles(labels), settings) as scene:
            mode = scene.plan.mode
            scene.run(on_progress=lambda _: None)
        found = np.asarray(Image.open(labels))[:, VALIDATION]
    confusion = ConfusionMatrix(CLASSES.own.num_classes)
    own = np.array(CLASSES.home, np.uint8)[found]
    confusion.update(torch.from_numpy(own)[None].long(), torch.from_numpy(truth)[None].long())
    result = scores(confusion.compute())
    measured = {"miou": result.miou, "pixel_accuracy": result.pixel_accuracy}
    print(f"{'scene' if side is None else f'windows of {side}'} ({mode}): {measured}")
    return measured


if __name__ == "__main__":
    main()
