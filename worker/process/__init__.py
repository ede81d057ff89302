"""What a worker process holds while it runs: connections, leases, its health."""
