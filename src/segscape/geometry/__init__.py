"""Intervals, windows and resampling: the arithmetic under everything that cuts images."""
