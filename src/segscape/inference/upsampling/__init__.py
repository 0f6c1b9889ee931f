"""From scores at a network's stride to labels at the image's size, without scores at the image's size.

From the top: `argmax` is what callers use, `views` the same for several looks at one image. The work is done by `cells`
on CPUs, by `pixels_triton` on CUDA devices, and by `blocks`, in plain PyTorch, elsewhere.
"""
