"""Upsampling of logits at a network's stride to labels at the image's size, without holding logits of that size.

`resizes` maps the logits of an image that was seen at some scale, padded or mirrored to the image's own pixels; all
other callers use `argmax`. The work is done by `cells` on CPUs, by `pixels_triton` on CUDA devices, and by `blocks`, in
plain PyTorch, elsewhere.
"""
