"""What a worker process can be: one module for each role."""
