"""Weights: converting the authors' checkpoints, and files that describe themselves."""
