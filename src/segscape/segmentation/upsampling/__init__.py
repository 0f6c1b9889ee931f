"""From scores at a network's stride to labels at the image's size, without scores at the image's size.

From the top: `resizes` goes from an image that was seen at some scale, padded or mirrored, to its pixels; `argmax` is
what callers use otherwise. The work is done by `cells` on CPUs, by `pixels_triton` on CUDA devices, and by `blocks`, in
plain PyTorch, elsewhere.
"""
