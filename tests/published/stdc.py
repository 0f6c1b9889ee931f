"""STDC-Seg."""

from segscape.training.optimisers import OptimiserSettings, Schedule

PUBLISHED = """
cityscapes:train>val 60000 3x16 1000 512x1024 - 0.125:1.5 0.01 0
    stdc1_seg/cityscapes_50 whole-0.5 72.22
    stdc1_seg/cityscapes_75 whole-0.75 74.50
    stdc2_seg/cityscapes_50 whole-0.5 74.24
    stdc2_seg/cityscapes_75 whole-0.75 77.04
"""

OPTIMISERS = {
    "stdc": OptimiserSettings(
        "sgd",
        momentum=0.9,
        weight_decay=5e-4,
        groups="split",
        head_lr_factor=10.0,
        train_backbone_norms=False,
        schedule=Schedule("exponential", warmup_steps=1000),
    )
}

LOSSES = {"stdc": ("hard pixels", {"logits": 1, "aux16": 1, "aux32": 1, "detail": 1})}

PRETRAINED = {
    "stdc1": {"backbone": "STDCNet813M_73.91.tar"},
    "stdc2": {"backbone": "STDCNet1446_76.47.tar"},
}
