"""Semantic segmentation of high-resolution images."""
