"""Mask refinement at any size: the stages, and within a stage the blocks that fit into memory.

From the top: `stages` runs the scales one after another, `plan` cuts a scale into blocks, `extraction` and `fusion`
make a block's features, `decoder` asks them for its points. `stored_map` holds the images and masks that the stages
read.
"""
