"""The losses, and their composition into a recipe."""

from segscape.losses.criterion import Criterion, LossTerm
from segscape.losses.cross_entropy import CrossEntropy, OhemCrossEntropy
from segscape.losses.detail import DetailLoss

__all__ = ["Criterion", "CrossEntropy", "DetailLoss", "LossTerm", "OhemCrossEntropy"]
