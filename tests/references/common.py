"""What every comparison with the authors' numbers is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent.parent / "golden"


@dataclass(frozen=True)
class Comparison:
    """One number or array beside its reference.

    Attributes:
        name: What is compared.
        error: The largest difference, relative to the largest reference value.
        tolerance: What the reference allows.
    """

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


def compare(name: str, ours: Any, reference: Any, tolerance: float) -> Comparison:
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape, f"{name}: {ours.shape} instead of {reference.shape}"
    scale = np.abs(reference).max()
    return Comparison(name, float(np.abs(ours - reference).max() / (scale or 1.0)), tolerance)
