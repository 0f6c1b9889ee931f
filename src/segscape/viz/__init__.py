"""Visualisation: overlays, contact sheets and curves."""
