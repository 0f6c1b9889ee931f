"""Data for mask refinement: pairs of image and exact mask, coarse masks computed from it, triples for evaluation."""

from segscape.data.refinement.grades import GRADES, reduce_mask
from segscape.data.refinement.pairs import NoPairsError, RefinementPairs
from segscape.data.refinement.perturbation import perturb
from segscape.data.refinement.samples import PairSample, TripleSample
from segscape.data.refinement.transforms import PerturbedPairs, RefinementAugmentation
from segscape.data.refinement.triples import RefinementTriples

__all__ = [
    "GRADES",
    "NoPairsError",
    "PairSample",
    "PerturbedPairs",
    "RefinementAugmentation",
    "RefinementPairs",
    "RefinementTriples",
    "TripleSample",
    "perturb",
    "reduce_mask",
]
