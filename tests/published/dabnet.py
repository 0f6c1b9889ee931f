"""DABNet."""

from segscape.training.optimisers import OptimiserSettings, Schedule

PUBLISHED = """
cityscapes:train>val 80000 4x8 8000 1024x1024 1024x2048 0.5:2 0.025 1e-4
    dabnet_resnet18_p1/cityscapes whole-1 77.4
    dabnet_resnet18_p2/cityscapes whole-1 77.8
    dabnet_resnet18_p4/cityscapes whole-1 78.1
    dabnet_resnet18_p8/cityscapes whole-1 78.8
    dabnet_resnet18_p16/cityscapes whole-1 78.4
cityscapes:trainval>val 80000 4x8 8000 1024x1024 1024x2048 0.5:2 0.025 1e-4
    dabnet_resnet18_p2/cityscapes_trainval whole-1 76.1
    dabnet_resnet18_p8/cityscapes_trainval whole-1 77.3
cityscapes:train>val 80000 4x4 8000 1024x1024 1024x2048 0.5:2 0.001 1e-4
    dabnet_efficientnet_b1/cityscapes whole-1 78.7
cityscapes:trainval>val 80000 4x4 8000 1024x1024 1024x2048 0.5:2 0.001 1e-4
    dabnet_efficientnet_b1/cityscapes_trainval whole-1 77.5
coco_stuff_10k:train>test 80000 4x8 8000 512x512 512x2048 0.5:2 0.005 1e-4
    dabnet_resnet18_p2/coco_stuff_10k whole-640x640-1 29.5
coco_stuff_10k:train>test 80000 4x8 8000 512x512 512x2048 0.5:2 0.001 1e-4
    dabnet_efficientnet_b1/coco_stuff_10k whole-640x640-1 32.4
coco_stuff_164k:train>val 160000 4x8 8000 512x512 512x2048 0.5:2 0.005 1e-4
    dabnet_resnet18_p2/coco_stuff_164k whole-640x640-1 -
camvid_original:trainval>test 10000 4x2 1000 768x960 768x1536 0.5:2 0.025 1e-4
    dabnet_resnet18_p2/camvid whole-768x960-1 74.3
camvid_original:trainval>test 10000 4x2 1000 768x960 768x1536 0.5:2 0.001 1e-4
    dabnet_efficientnet_b1/camvid whole-768x960-1 76.5
"""

OPTIMISERS = {
    "dabnet_resnet18": OptimiserSettings(
        "sgd",
        momentum=0.9,
        weight_decay=5e-4,
        groups="one",
        schedule=Schedule("linear", warmup_steps=1000, warmup_ratio=0.1),
    ),
    "dabnet_efficientnet": OptimiserSettings("adam", betas=(0.5, 0.999), weight_decay=0.0, groups="one"),
}

LOSSES = {"dabnet": ("all", {"logits": 1, "aux16": 0.4, "aux32": 0.4})}

PRETRAINED = {
    "dabnet_resnet18": {"backbone": "resnet18_v1c-b5776b93.pth"},
    "dabnet_efficientnet": "imagenet",
}
