"""Runtimes, each of which runs a network on one engine: a batch of images in, logits out."""

import sys

# OpenVINO and NNCF report their use by this package, and do without it where it cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
