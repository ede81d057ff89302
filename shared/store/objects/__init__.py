"""Objects in the object store: their keys and their removal."""
