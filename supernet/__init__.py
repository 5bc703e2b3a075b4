"""Torch modules of the blocks, networks assembled from them, checkpoints."""
