"""Export formats, runtimes and devices: one file each, found by its name."""
