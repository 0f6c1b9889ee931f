"""BiSeSTDC."""

from tests.published import stdc

PUBLISHED = """
cityscapes:train>val 160000 2x6 1000 512x1024 - 0.125:1.5 0.01 0
    bisestdc/cityscapes_50 whole-0.5 74.6
    bisestdc/cityscapes_75 whole-0.75 77.6
"""

OPTIMISERS = {"bisestdc": stdc.OPTIMISERS["stdc"]}

LOSSES = {"bisestdc": ("hard pixels", {"logits": 1, "aux8": 0.3, "aux16": 0.3, "aux32": 0.3, "detail": 1})}

PRETRAINED = {"bisestdc": {"backbone": "STDCNet813M_73.91.tar"}}
