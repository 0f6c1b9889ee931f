"""Segmentation of scenes on a Ray cluster with a shared folder: only small records are sent, never pixels."""
