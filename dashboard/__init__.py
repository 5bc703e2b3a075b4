"""The dashboard: pages over the service's REST API; no SQL, no torch, nothing that a client could not read."""
