"""A network run over a scene of any size, strip by strip, with the same result as on the whole scene at once.

PyTorch exports the network's graph as it is (`graph`). Every layer has a receptive field, the rows and columns of its
input that each row and column of its result reads, and a function that computes a window of the result (`rules`, and
the layers in `pointwise`, `windowed` and `resized`). Only means read the whole scene; they are gathered first, in
reduction passes. A sweep pushes the scene's rows through the layers once, and each map keeps only the rows that are
still to be read (`sweep`). A layer that cannot be computed window by window is refused when the network is traced,
before any work.
"""
