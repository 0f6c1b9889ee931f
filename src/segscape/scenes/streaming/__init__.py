"""A network run over a scene of any size, strip by strip, with the numbers that the whole scene at once would give.

The network's graph is taken from PyTorch as it is (`graph`). Of every layer it is known which rows and columns of its
input each one of its result reads, and how a window of the result is computed (`rules`, and the layers in `pointwise`,
`windowed` and `resized`); what reads the whole scene is a mean, and those are gathered first. A sweep pushes the
scene's rows through the layers once, each keeping only the rows that are still to be read (`sweep`). A layer that
cannot be computed so is refused when the graph is taken, before any work.
"""
