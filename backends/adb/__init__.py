"""Phones by way of adb: the binary, what they say of themselves, and the files that they keep for us."""
