"""The losses, and their composition into a recipe."""

from segscape.losses.criterion import Criterion, LossTerm
from segscape.losses.cross_entropy import CrossEntropy, OhemCrossEntropy
from segscape.losses.detail import DetailLoss
from segscape.losses.reconstruction import ReconstructionLoss, StructureLoss

__all__ = [
    "Criterion",
    "CrossEntropy",
    "DetailLoss",
    "LossTerm",
    "OhemCrossEntropy",
    "ReconstructionLoss",
    "StructureLoss",
]
