"""Mask refinement at any size: the stages, and within a stage the blocks that fit into memory.

From the top: `stages` runs the scales one after another, `plan` cuts a scale into blocks, `extraction` and `fusion`
make a block's features, `decoder` asks them for its points. `lines` holds the arithmetic along one axis that all of
them share, `planes` the images and masks that are read between the stages.
"""
