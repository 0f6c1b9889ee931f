"""Mask refinement at any size: the stages, and within a stage the blocks that fit into memory.

From the top: `stages` runs the scales one after another, `plan` cuts a scale into blocks, `extraction` and `fusion`
compute a block's features, `decoder` computes the logits at its points. `stored_map` holds the images and masks that
the stages read.
"""
