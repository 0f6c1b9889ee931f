"""Networks as files that run outside of Python: written, checked against PyTorch, and read back.

`write` exports a network to a file, `verify` compares the file's results with PyTorch's, `read` runs a file, and
`metadata` defines the description that a file holds of its graph.
"""
