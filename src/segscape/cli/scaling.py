"""The scaling that `--scaling` asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from segscape.rasters.channels import Scaling, common_scaling
from segscape.rasters.source import open_stored
from segscape.rasters.stored import StoredImage


def scaling_of(
    asked: Scaling | Literal["common"] | None,
    images: Sequence[Path],
    *,
    bands: Sequence[int] | None,
    nodata: float | None,
) -> Scaling | None:
    """Return the scaling that is asked for; of `common`, the one of all images that can be read.

    Raises:
        ValueError: Some images are of 8 bits and others are not.
    """
    if asked != "common":
        return asked

    def opened() -> Iterator[StoredImage]:
        for image in images:
            # What cannot be read is said when it is to be segmented.
            with suppress(ValueError, OSError):
                yield open_stored(image)

    return common_scaling(opened(), bands=bands, nodata=nodata)
