"""``longhand doctor``: what is wrong with a deployment, looked at from one of its machines."""
