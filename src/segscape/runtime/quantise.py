"""Networks in 8-bit integers: quantised after training, with images on which each layer's range is measured."""

from __future__ import annotations

import contextlib
import io
import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING

from segscape.runtime.base import Calibration, RuntimeUnavailableError

if TYPE_CHECKING:
    import openvino


def quantised(model: openvino.Model, calibration: Calibration | None) -> openvino.Model:
    """Quantise a model, so that its convolutions and matrix products compute with 8-bit integers.

    Weights are quantised symmetrically with a scale for each channel; activations may be quantised asymmetrically, as
    those behind a ReLU are.

    Args:
        model: The model, from normalised images (N, 3, H, W) to logits.
        calibration: Images like those that it is to be used on.

    Raises:
        RuntimeUnavailableError: NNCF is not installed, or there are no images.
    """
    if find_spec("nncf") is None:
        raise RuntimeUnavailableError("The precision int8 needs NNCF: pip install 'segscape[int8]'.")
    if calibration is None or not calibration.images:
        raise RuntimeUnavailableError(
            "The precision int8 needs images like those that it will be used on; give their folder as --calibration."
        )
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    images = nncf.Dataset(list(calibration.images), lambda read: read().contiguous().numpy())
    # NNCF prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(model, images, preset=nncf.QuantizationPreset.MIXED, subset_size=len(calibration.images))
