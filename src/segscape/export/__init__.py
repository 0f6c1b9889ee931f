"""Networks as files that run outside of Python: written, checked against PyTorch, and read back.

`write` makes a file, `verify` compares what it computes with PyTorch, `read` runs one, and `metadata` is what a file
says of itself.
"""
