"""Data for mask refinement: pairs of image and exact mask, coarse masks computed from it, triples for evaluation."""
