"""The suffixes by which files are told apart, in lower case."""

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
"""Suffixes of GeoTIFF and plain TIFF files."""
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Suffixes of the image files to look for in a folder."""
PHOTO_SUFFIXES = IMAGE_SUFFIXES - TIFF_SUFFIXES
"""Suffixes of the images that are one view each; all other rasters are scenes."""
