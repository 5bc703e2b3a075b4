"""Export formats: `<format>.py` holds one Exporter."""
