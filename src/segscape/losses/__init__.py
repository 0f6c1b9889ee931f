"""The losses, and their composition into a recipe."""

from segscape.losses.criterion import Criterion, LossTerm
from segscape.losses.cross_entropy import CrossEntropy, OhemCrossEntropy
from segscape.losses.detail import DetailLoss
from segscape.losses.dice import DiceLoss
from segscape.losses.reconstruction import ReconstructionLoss, StructureLoss
from segscape.losses.refinement import RefinementLoss, RefinementWeights

__all__ = [
    "Criterion",
    "CrossEntropy",
    "DetailLoss",
    "DiceLoss",
    "LossTerm",
    "OhemCrossEntropy",
    "ReconstructionLoss",
    "RefinementLoss",
    "RefinementWeights",
    "StructureLoss",
]
