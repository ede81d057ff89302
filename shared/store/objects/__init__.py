"""Objects in the object store: where they lie, and how they go."""
