"""Runtimes: `<name>.py` holds one Runtime."""
