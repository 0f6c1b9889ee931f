"""Data sets, augmentation and the order of samples."""
