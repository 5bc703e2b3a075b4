"""Measuring: sweeps of blocks over devices, from spec to row."""
