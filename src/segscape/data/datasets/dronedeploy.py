"""DroneDeploy: chips of drone orthophotos at 10 cm a pixel, with six classes.

Source: github.com/dronedeploy/dd-ml-segmentation-benchmark.
"""

from __future__ import annotations

import re

from segscape.data.datasets.camvid import ImagesAndLabels
from segscape.labels import DRONEDEPLOY


class DroneDeploy(ImagesAndLabels):
    """DroneDeploy; the label files hold the class index 0 to 5, and 255 where there is no label."""

    label_spec = DRONEDEPLOY
    name_pattern = re.compile(r"\w+OPENPIPELINE-\d+")
