"""CRM: every golden of the authors' code."""

from tests.references import crm as references
from tests.references.common import assert_all


def test_network_outputs() -> None:
    assert_all(references.network_outputs())


def test_refinement_stage_by_stage() -> None:
    assert_all(references.refinement_stages())


def test_refinement() -> None:
    assert_all(references.refinement())


def test_training_losses_and_gradients() -> None:
    assert_all(references.training_losses())


def test_official_names_and_back() -> None:
    assert_all(references.round_trip())


def test_costs() -> None:
    assert_all(references.costs())
