"""Runtimes, each of which runs a network on one engine: a batch of images in, logits out."""
