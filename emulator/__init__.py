"""An emulated phone: the device side of adb over TCP, in front of a userland that looks like a phone's."""
