"""What the Core ML exporter and the interpreter of its packages share: coremltools, and the MIL program on disk."""
