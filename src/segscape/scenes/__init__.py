"""Segmentation of a scene of any size, task by task: its input and output files, the plan, and what is done already.

How a network is run over it is implemented in `segscape.scenes.streaming` and `segscape.scenes.tiling`.
"""
