"""Intervals, windows, receptive fields and resampling: the index arithmetic for processing images in parts."""
