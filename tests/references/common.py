"""What every comparison with the authors' numbers is made of."""

from __future__ import annotations

from collections.abc import Iterable
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


def assert_all(comparisons: Iterable[Comparison]) -> None:
    """Fail with every comparison that is outside its tolerance, and where there is none at all."""
    comparisons = list(comparisons)
    assert comparisons
    worse = [f"{c.name}: {c.error:.2e} > {c.tolerance:.1e}" for c in comparisons if not c.passed]
    assert not worse, "\n".join(worse)
