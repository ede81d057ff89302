"""Models: the catalogue, what may be asked of them, and which can be used on this machine."""
