"""Every golden of the authors' code, within the tolerances that its specification states."""

import pytest

from tests.references import bisestdc as references
from tests.references.common import assert_all


@pytest.mark.parametrize("variant", references.NETWORKS)
def test_evaluation_outputs(variant: str) -> None:
    assert_all(references.evaluation_outputs(variant))


@pytest.mark.parametrize("variant", references.COUNTED)
def test_costs(variant: str) -> None:
    assert_all(references.costs(variant))


@pytest.mark.parametrize("variant", ["bisestdc", "stdc1", "stdc2"])
def test_official_evaluation_protocol(variant: str) -> None:
    assert_all(references.evaluation_protocol(variant))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("variant", references.SEGMENTATION)
def test_training_losses_and_gradients(variant: str, dtype: str) -> None:
    assert_all(references.training_losses(variant, dtype))


@pytest.mark.parametrize("unit", ["ohem_units", "detail_units", "norm_units", "schedule_units"])
def test_units(unit: str) -> None:
    assert_all(getattr(references, unit)())
