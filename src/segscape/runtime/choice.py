"""The choice of the fastest runtime on this machine of those with the right result: found by trying, and cached."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segscape.choices import Precision
from segscape.normalisation import Normalisation
from segscape.runtime.base import Deployed, Runtime, RuntimeUnavailableError
from segscape.runtime.cache import find, keep
from segscape.runtime.create import RUNTIME_NAMES, create_runtime
from segscape.runtime.eager import EagerRuntime
from segscape.runtime.machine import has_bf16, processor, versions

Candidates = Mapping[tuple[str, Precision], Callable[[], Runtime]]

_PROBE = (512, 1024)
_MOST_ERROR = 1e-4
"""The upper bound of a logit's error in float32, as a share of the largest logit."""
_LEAST_AGREEMENT = 0.995
"""The lower bound of the share of equal labels in lower precision."""
_ROUNDS = 5
_LONG = 10.0
"""Seconds after which no further round begins."""
_PACKAGES = ("torch", "openvino", "onnxruntime", "onnxruntime-gpu", "onnx", "onnxscript")


@dataclass(frozen=True)
class Choice:
    """A chosen runtime, and the reason for it.

    Attributes:
        name: Name of the runtime.
        precision: The precision that it computes in.
        reason: Why it was chosen, in words.
        others: One entry for each runtime that was not chosen, with its time or its fault.
    """

    name: str
    precision: Precision
    reason: str
    others: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.precision}, {self.reason}"


def choose_runtime(deployed: Deployed, *, precision: Precision | None = None) -> tuple[Runtime, Choice]:
    """Choose the fastest runtime that is installed and gives the right result on this machine.

    Each is compared with PyTorch in float32 on a photograph of 512 x 1024 pixels: in float32 no logit may be off by
    more than 1e-4 of the largest, in lower precision 99.5 % of the labels must be equal. The choice is cached for these
    weights, this machine and these versions.

    Args:
        deployed: The network to run.
        precision: The precision to compute in; by default fp32 or, where the processor has it, bf16, whichever is
            faster.

    Raises:
        RuntimeUnavailableError: No runtime here gives the right result in this precision, or it would be slow.
    """
    if precision == "int8":
        raise RuntimeUnavailableError("Only the runtime openvino computes in int8; give --runtime openvino.")
    if precision == "bf16" and not has_bf16(deployed.device):
        raise RuntimeUnavailableError(
            "This processor has no bf16 arithmetic, so bf16 would be slower than fp32; leave out --precision, or name "
            "a runtime other than auto."
        )
    # The cached choice holds as long as none of these changes.
    key = {
        "weights": deployed.fingerprint,
        "network": type(deployed.network).__name__,
        "precision": precision,
        "runtimes": RUNTIME_NAMES,
        "processor": processor(deployed.device),
        "threads": torch.get_num_threads(),
        "versions": versions(*_PACKAGES),
    }
    remembered = find("choice", key)
    if remembered is not None:
        fields = json.loads(remembered)
        choice = Choice(**{**fields, "others": tuple(fields["others"])})
        return create_runtime(choice.name, deployed, precision=choice.precision), choice
    runtime, choice = fastest(
        _candidates(deployed, precision),
        EagerRuntime(deployed),
        probe=_probe(deployed),
        # The reference computes in fp32, so it is no answer where another precision is asked for.
        may_keep=precision in (None, "fp32"),
    )
    keep("choice", key, json.dumps(asdict(choice)).encode())
    return runtime, choice


def fastest(
    candidates: Candidates, reference: Runtime, *, probe: Tensor, may_keep: bool = True
) -> tuple[Runtime, Choice]:
    """Choose the fastest of some runtimes whose result is right, timed in turns.

    Args:
        candidates: Functions that create the runtimes, by name and precision; one that fails is skipped.
        reference: The runtime whose result counts as right.
        probe: Images (N, 3, H, W) to try them on, normalised.
        may_keep: Whether the reference itself is chosen where nothing is faster.

    Raises:
        RuntimeUnavailableError: No candidate is right, and the reference may not be kept.
    """
    expected = reference(probe)
    usable: dict[tuple[str, Precision], Runtime] = {}
    others = []
    for (name, precision), make in candidates.items():
        try:
            runtime = make()
            fault = _fault(runtime(probe), expected, precision)
        except Exception as error:
            # Engines raise errors of any kind; the other candidates are tried all the same.
            fault = (str(error).strip() or repr(error)).splitlines()[0]
        if fault:
            others.append(f"{name} {precision}: {fault}")
        else:
            usable[name, precision] = runtime
    if not (usable or may_keep):
        raise RuntimeUnavailableError(f"No runtime does here: {'; '.join(others)}.")
    # The reference is timed even where it may not be kept: the reason compares with it.
    base, *seconds = _timed([reference, *usable.values()], probe)
    times = dict(zip(usable, seconds, strict=True))
    runtimes = usable
    if may_keep:
        own = (reference.name, reference.precision)
        times, runtimes = {own: base, **times}, {own: reference, **usable}
    best = min(times, key=times.__getitem__)
    others += [f"{name} {kind}: {1000 * taken:.0f} ms" for (name, kind), taken in times.items() if (name, kind) != best]
    size = "probe {} x {}".format(*probe.shape[2:])
    if runtimes[best] is reference:
        reason = f"which nothing else here outruns ({size})"
    else:
        reason = f"{base / times[best]:.2f} times as fast as {reference.name} {reference.precision} ({size})"
    return runtimes[best], Choice(*best, reason, tuple(others))


def _candidates(deployed: Deployed, precision: Precision | None) -> Candidates:
    """Return the runtimes that may be faster than PyTorch layer by layer, by name and precision.

    TensorRT is not tried, as it takes minutes for each size.
    """
    # On a CPU compiling takes as long as many images, and the other runtimes gain as much.
    names = ("compile", "onnx") if deployed.device.type == "cuda" else ("winograd", "openvino", "onnx")
    bf16 = ("bf16",) if has_bf16(deployed.device) else ()
    wanted: tuple[Precision, ...] = (*bf16, "fp32") if precision is None else (precision,)

    # A lambda in the loop itself would see the loop's last pair.
    def maker(name: str, kind: Precision) -> Callable[[], Runtime]:
        return lambda: create_runtime(name, deployed, precision=kind)

    pairs = [(name, kind) for kind in wanted for name in ("torch", *names)]
    # The first is the reference itself, and winograd computes in fp32 alone.
    pointless = {("torch", "fp32"), ("winograd", "bf16")}
    return {pair: maker(*pair) for pair in pairs if pair not in pointless}


def _fault(logits: Tensor, expected: Tensor, precision: Precision) -> str | None:
    """Describe the fault of a result in words, or return None where it has none."""
    if logits.shape != expected.shape or not logits.isfinite().all():
        return "its logits are not numbers, or of another shape"
    if precision == "fp32":
        error = float((logits - expected).abs().max() / expected.abs().max())
        return f"its logits are off by {error:.1e} of the largest" if error > _MOST_ERROR else None
    agreement = float((logits.argmax(1) == expected.argmax(1)).float().mean())
    return f"only {agreement:.2%} of its labels are right" if agreement < _LEAST_AGREEMENT else None


def _timed(runtimes: list[Runtime], probe: Tensor) -> list[float]:
    """Return the least seconds of each runtime, from rounds in which all take turns.

    Other work on the machine only adds to the time of a run, so the least is the best estimate.
    """
    times: list[list[float]] = [[] for _ in runtimes]
    began = time.perf_counter()
    for turn in range(_ROUNDS):
        if turn and time.perf_counter() - began > _LONG:
            break
        for runtime, taken in zip(runtimes, times, strict=True):
            start = time.perf_counter()
            # Reading one value waits until the GPU is done.
            runtime(probe)[0, 0, 0, 0].item()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def _probe(deployed: Deployed) -> Tensor:
    """Return a street photograph (1, 3, H, W) of 512 x 1024 pixels, or of the next size that the network takes."""
    height, width = deployed.network.fitting_size(*_PROBE)
    folder = Path(str(files("segscape"))) / "examples" / "camvid" / "images"
    with Image.open(min(folder.rglob("*.jpg"))) as photograph:
        pixels = np.array(photograph.convert("RGB").resize((width, height)))
    batch = torch.from_numpy(pixels).to(deployed.device).permute(2, 0, 1).unsqueeze(0)
    return Normalisation()(batch).contiguous(memory_format=torch.channels_last)
