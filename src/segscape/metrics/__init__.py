"""Scores and the protocols that measure them."""

from segscape.metrics.confusion import ConfusionMatrix, Scores, scores

__all__ = ["ConfusionMatrix", "Scores", "scores"]
