"""The embedded stack: the production shape on one machine, from wheels, under one directory."""
