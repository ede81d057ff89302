"""Ways in: bodies and forms are read, files landed in the object store, and jobs submitted."""
