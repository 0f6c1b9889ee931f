"""The confusion matrix and the scores read from it."""

from segscape.metrics.confusion import ConfusionMatrix, Scores, scores

__all__ = ["ConfusionMatrix", "Scores", "scores"]
