"""PyTorch on a CPU with 3 x 3 convolutions by Winograd's algorithm."""
