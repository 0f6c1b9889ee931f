"""Engines: a batch of images in, logits out."""
