"""The search: a supernet is trained, slimmed to a latency target on a device's table, and what is found is trained."""
