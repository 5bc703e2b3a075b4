"""The formats of tables that EdgeLUT exchanges: one file each, found by its name."""
