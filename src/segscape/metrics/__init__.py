"""Scores of label maps and masks."""

from segscape.metrics.boundary import MaskResult, MaskScores, boundary_accuracy, boundary_counts, boundary_radii
from segscape.metrics.confusion import ConfusionMatrix, Scores, scores
from segscape.metrics.objects import ObjectResult, ObjectScores
from segscape.metrics.saliency import SaliencyResult, SaliencyScores

__all__ = [
    "ConfusionMatrix",
    "MaskResult",
    "MaskScores",
    "ObjectResult",
    "ObjectScores",
    "SaliencyResult",
    "SaliencyScores",
    "Scores",
    "boundary_accuracy",
    "boundary_counts",
    "boundary_radii",
    "scores",
]
