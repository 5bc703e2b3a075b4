"""Devices: `<name>.py` holds one Device."""
