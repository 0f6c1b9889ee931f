"""The suffixes by which files are told apart, in lower case."""

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
"""Suffixes of GeoTIFF and plain TIFF files."""
PHOTO_SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".mpo", ".png", ".ppm", ".webp"})
"""Suffixes of the images that are one view each; all other rasters are scenes."""
IMAGE_SUFFIXES = PHOTO_SUFFIXES | TIFF_SUFFIXES | {".j2k", ".jp2", ".vrt"}
"""Suffixes of the image files to look for in a folder."""
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
"""Suffixes of the files that are taken for videos."""
