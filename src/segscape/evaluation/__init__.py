"""The published protocols by which networks are measured."""
