"""The durable job engine: a workflow for each job, leases of devices, and what agents are told. No torch."""

from datetime import timedelta

KEEP = timedelta(days=90)  # jobs that ended, and what the engine remembers of them; rows and runs are kept for ever
