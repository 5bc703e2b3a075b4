"""Devices outside the tree: pads that are always ready."""
