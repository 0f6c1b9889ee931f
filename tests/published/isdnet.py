"""ISDNet."""

from segscape.training.optimisers import OptimiserSettings

PUBLISHED = """
deepglobe:train>val 80000 4x2 4000 1224x1224 2448x2448 1:1 0.01 1e-4
    isdnet_resnet18/deepglobe whole-fit2448x2448-0.8-pixels 73.30
inria_aerial:train>val 40000 4x1 4000 2000x2000 5000x5000 0.8:0.8 0.01 1e-4
    isdnet_resnet18/inria_aerial whole-fit5000x5000-0.8-pixels 74.39
cityscapes:train>val 80000 4x2 4000 512x1024 1024x2048 0.5:2 0.01 1e-4
    isdnet_resnet18/cityscapes whole-fit1024x2048-0.8-pixels -
"""

OPTIMISERS = {"isdnet": OptimiserSettings("sgd", momentum=0.9, weight_decay=5e-4, groups="one")}

LOSSES = {
    "isdnet": (
        "all",
        {
            "logits": 1,
            "deep": 1,
            "context8": 1,
            "context16": 1,
            "layer3": 0.4,
            "reconstruction": 0.1,
            "deep_features": 1,
        },
    )
}

PRETRAINED = {"isdnet": {"backbone": "resnet18_v1c-b5776b93.pth", "shallow": "STDCNet813M_73.91.tar"}}
