"""ISNet."""

from segscape.training.optimisers import OptimiserSettings

PUBLISHED = """
cityscapes:train>val 81840 8x2 1860 512x1024 1024x2048 0.5:2 0.01 1e-4
    isnet_resnet50/cityscapes whole-fit1024x2048-1-direct 79.32
    isnet_resnet101/cityscapes whole-fit1024x2048-1-direct 80.56
    isnet_resnet50/cityscapes_multiscale slide512x1024by341x341-fit1024x2048-SIX-flip-softmax@network-direct 81.31
    isnet_resnet101/cityscapes_multiscale slide1024x512by341x341-fit1024x2048-SIX-flip-direct 81.96
ade20k:train>val 164190 8x2 12630 512x512 512x2048 0.5:2 0.01 1e-4
    isnet_resnet50/ade20k whole-fit512x2048-1-direct 44.22
    isnet_resnet101/ade20k whole-fit512x2048-1-direct 45.92
    isnet_resnet50/ade20k_multiscale whole-fit512x2048-SIX-flip-softmax@network-direct 45.03
    isnet_resnet101/ade20k_multiscale whole-fit512x2048-SIX-flip-softmax@network-direct 47.29
coco_stuff_10k_182:train>test 61820 8x2 5620 512x512 512x2048 0.5:2 0.001 1e-5
    isnet_resnet50/coco_stuff_10k whole-fit512x2048-1-direct 38.06
    isnet_resnet101/coco_stuff_10k whole-fit512x2048-1-direct 40.53
    isnet_resnet50/coco_stuff_10k_multiscale whole-fit512x2048-0.5+0.75+1+1.25+1.5-flip-direct 40.39
    isnet_resnet101/coco_stuff_10k_multiscale whole-fit512x2048-0.5+0.75+1+1.25+1.5-flip-direct 41.74
lip:train>val 142800 8x4 9520 473x473 520x520 0.75:1.25 0.01 1e-4
    isnet_resnet50_lip/lip whole-473x473-1-direct 53.14
    isnet_resnet101_lip/lip whole-473x473-1-direct 54.96
    isnet_resnet50_lip/lip_flip whole-473x473-1-flip-direct 53.41
    isnet_resnet101_lip/lip_flip whole-473x473-1-flip-direct 55.41
cityscapes:train>val 81840 8x2 1860 512x1024 1024x2048 0.5:2 0.01 1e-4
    isnet_resnest101/cityscapes whole-fit1024x2048-1-direct 78.78
    isnet_resnest101/cityscapes_multiscale slide512x1024by341x341-fit1024x2048-SIX-flip-softmax@network-direct 81.33
ade20k:train>val 227340 8x2 12630 512x512 512x2048 0.5:2 0.004 1e-4
    isnet_resnest101/ade20k whole-fit512x2048-1-direct 46.65
    isnet_resnest101/ade20k_multiscale whole-fit512x2048-SIX-flip-softmax@network-direct 47.56
coco_stuff_10k_182:train>test 42150 8x4 2810 512x512 512x2048 0.5:2 0.001 1e-4
    isnet_resnest101/coco_stuff_10k whole-fit512x2048-1-direct 41.55
    isnet_resnest101/coco_stuff_10k_multiscale whole-fit512x2048-0.5+0.75+1+1.25+1.5-flip-direct 42.53
lip:train>val 114150 8x5 7610 473x473 520x520 0.75:1.25 0.007 7e-5
    isnet_resnest101_lip/lip whole-473x473-1-direct 56.52
    isnet_resnest101_lip/lip_flip whole-473x473-1-flip-direct 56.81
cityscapes:train>val 160000 8x2 16000 512x1024 1024x2048 0.5:2 0.01 1e-4
    isnet_resnet50/cityscapes_160k whole-fit1024x2048-1-direct -
""".replace("SIX", "0.5+0.75+1+1.25+1.5+1.75")

OPTIMISERS = {"isnet": OptimiserSettings("sgd", momentum=0.9, weight_decay=5e-4, groups="one")}

LOSSES = {"isnet": ("labelled", {"logits": 1, "stage1": 0.4, "aux": 0.4})}

PRETRAINED = {
    "isnet_resnet50": {"backbone": "resnet50_v1c-2cccc1ad.pth"},
    "isnet_resnet101": {"backbone": "resnet101_v1c-e67eebb6.pth"},
    "isnet_resnest101": {"backbone": "resnest101_d2-f3b931b2.pth"},
}
