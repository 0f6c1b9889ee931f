"""Pipelines from an image file to a label file, each run by a process of its own that waits for its turn.

`benchmarks/side_by_side.py` starts this file once for each of them, writes a line for each image to be segmented, and
reads a line of JSON with the seconds of each stage. Only "ours" needs Segscape itself; the peers of
`benchmarks/peers/networks.py` run in an environment of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from segscape import Segmenter

STAGES = ("read", "network", "labels", "write")
TRAINED = {"scapenet_lite0": "scapenet_lite0.street"}
"""Weights that ship, by network; all other networks get random ones."""
CLASSES = {"isdnet_resnet18": 7}
"""Of networks with random weights, where it is not 19."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Pipeline = Callable[[Path, Path], dict[str, float]]
"""From an image file to a label PNG; returns the seconds of each stage."""


@dataclass(frozen=True)
class Convention:
    """How a network's logits become labels.

    Attributes:
        align_corners: Of the resize to the image's size.
        softmax: Whether probabilities are computed before the arg-max, as the authors' code does.
    """

    align_corners: bool
    softmax: bool


def plain_pipeline(
    network: Callable[[Tensor], Tensor], convention: Convention, *, channels_last: bool = False
) -> Pipeline:
    """Pillow, PyTorch in float32, logits at the image's size, arg-max, Pillow.

    Args:
        network: From normalised images (1, 3, H, W) to logits (1, K, h, w).
        convention: How these become labels.
        channels_last: The layout in memory of what the network gets.
    """
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))

    @torch.inference_mode()
    def run(frame: Path, output: Path) -> dict[str, float]:
        clock = [time.perf_counter()]
        with Image.open(frame) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB")))
        clock.append(time.perf_counter())
        images = ((pixels.permute(2, 0, 1).contiguous().float().div_(255) - mean) / std)[None]
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits = network(images)
        clock.append(time.perf_counter())
        scores = F.interpolate(logits, pixels.shape[:2], mode="bilinear", align_corners=convention.align_corners)
        if convention.softmax:
            scores = scores.softmax(1)
        labels = scores.argmax(1)[0].to(torch.uint8).numpy()
        clock.append(time.perf_counter())
        Image.fromarray(labels).save(output)
        clock.append(time.perf_counter())
        return dict(zip(STAGES, np.diff(clock).tolist(), strict=True))

    return run


def load(name: str) -> nn.Module:
    """A segmentation network with its shipped weights, or with random ones, the same in every process."""
    import segscape

    if name in TRAINED:
        return segscape.create_model(name, weights=TRAINED[name])
    torch.manual_seed(0)
    return segscape.create_model(name, CLASSES.get(name, 19))


def with_all_heads(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """A network that evaluates every head that it is trained with, as the authors' code does, and returns its logits.

    It is in training mode, but for the layers that act otherwise there.
    """
    network.train()
    for module in network.modules():
        if not list(module.children()):
            module.eval()
    return lambda images: network(images).logits


def plain(name: str) -> Pipeline:
    """What a user of the authors' code has: every head, softmax, nothing prepared."""
    network = load(name)
    return plain_pipeline(with_all_heads(network), Convention(network.align_corners, softmax=True))


def lean(name: str) -> Pipeline:
    """What a user who knows PyTorch writes: no training heads, normalisation folded, channels last, no softmax."""
    from segscape.runtime.deploy import deploy

    network = deploy(load(name))
    return plain_pipeline(network, Convention(network.align_corners, softmax=False), channels_last=True)


def segmenter(name: str, pipeline: str) -> Segmenter:
    """Segscape as the command line makes it.

    Args:
        name: Of the network.
        pipeline: A runtime, and a precision if it is not the runtime's own, such as `openvino int8`.
    """
    import segscape
    from segscape.benchmark.subject import example_frames
    from segscape.checkpoints.card import WeightsCard
    from segscape.checkpoints.shipped import find_weights, read_card
    from segscape.normalisation import Normalisation

    network = load(name)
    if name in TRAINED:
        card = read_card(find_weights(TRAINED[name]))
    else:
        classes = CLASSES.get(name, 19)
        names = tuple(f"class {index}" for index in range(classes))
        card = WeightsCard(name, names, ((0, 0, 0),) * classes, Normalisation())
    runtime, _, precision = pipeline.partition(" ")
    calibration = example_frames() if precision == "int8" else ()
    return segscape.Segmenter(
        *(network, card),
        device="cpu",
        working_size=None,
        runtime=runtime,
        precision=precision or "auto",
        calibration=calibration,
    )


def ours(segmenter: Segmenter) -> Pipeline:
    """The public interface, an image at a time."""

    def run(frame: Path, output: Path) -> dict[str, float]:
        result = segmenter.segment(frame)
        start = time.perf_counter()
        result.save(output)
        return {**result.seconds, "write": time.perf_counter() - start}

    return run


def pipelined(segmenter: Segmenter, frame: Path, folder: Path, files: int) -> float:
    """Images a second of the command line over many files, which reads and writes while it computes."""
    from segscape.cli.jobs.photographs import PhotoJob, segment_photos
    from segscape.cli.progress import progress

    jobs = [PhotoJob(frame, folder / f"{number}.png", None) for number in range(files)]
    with progress() as bar:
        start = time.perf_counter()
        for _, result in segment_photos(segmenter, jobs, bar):
            if isinstance(result, Exception):
                raise result
        return files / (time.perf_counter() - start)


def peer(name: str) -> Pipeline:
    """A network of another package, with what its users write around it."""
    from peers.networks import PEERS

    return plain_pipeline(PEERS[name](), Convention(align_corners=False, softmax=False))


def main() -> None:
    """Serve one pipeline: a line in, a line of JSON out, until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline")
    parser.add_argument("network")
    parser.add_argument("frame", type=Path)
    parser.add_argument("folder", type=Path, help="where labels are written")
    arguments = parser.parse_args()
    # What libraries print must not stand among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    made = None
    if arguments.pipeline in ("plain", "lean", "peer"):
        run = {"plain": plain, "lean": lean, "peer": peer}[arguments.pipeline](arguments.network)
    else:
        made = segmenter(arguments.network, arguments.pipeline)
        run = ours(made)
    name = f"{made.runtime.name} {made.runtime.precision}" if made else "torch fp32"
    print(json.dumps({"computes": name}), file=answers, flush=True)
    for line in sys.stdin:
        if line.startswith("pipelined"):
            answer = {"per_second": pipelined(made, arguments.frame, arguments.folder, int(line.split()[1]))}
        else:
            answer = run(arguments.frame, arguments.folder / "labels.png")
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
