"""Dubai: satellite images of seven places, each cut into up to nine parts, with five classes.

Source: Semantic segmentation of aerial imagery, Humans in the Loop with the Mohammed Bin Rashid Space Centre.
"""

from __future__ import annotations

import re

from segscape.data.datasets.camvid import ImagesAndLabels
from segscape.labels import DUBAI


class Dubai(ImagesAndLabels):
    """Dubai; the label files hold the class index 0 to 4, and 255 where there is no label."""

    label_spec = DUBAI
    name_pattern = re.compile(r"tile\d+_\d+")
