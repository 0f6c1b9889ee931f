"""A network run over a scene of any size, strip by strip, with the numbers that the whole scene at once would give.

The network's graph is taken from PyTorch as it is. Of every layer it is known which lines of its input each line of its
result reads (`reads`, `layers`); what reads the whole scene is a mean, and those are gathered first (`graph`). A sweep
pushes the scene's rows through the layers once, each keeping only the rows that are still to be read (`sweep`).
"""
