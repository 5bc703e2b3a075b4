"""The durable job engine: a workflow for each job, leases of devices, and what agents are told. No torch."""
