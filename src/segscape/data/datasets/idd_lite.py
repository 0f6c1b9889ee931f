"""IDD-Lite: 320 x 227 street frames of Indian cities with seven classes.

Source: Varma et al., IDD: A Dataset for Exploring Problems of Autonomous Navigation in Unconstrained Environments (WACV
2019); Mishra et al., Semantic Segmentation Datasets for Resource Constrained Training (NCVPRIPG 2019).
"""

from __future__ import annotations

import re

from segscape.data.datasets.camvid import ImagesAndLabels
from segscape.labels import IDD_LITE


class IddLite(ImagesAndLabels):
    """IDD-Lite; the label files hold the class index 0 to 6, and 255 where there is no label."""

    label_spec = IDD_LITE
    name_pattern = re.compile(r"\d+_\d+")
