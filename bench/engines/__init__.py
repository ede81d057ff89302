"""The engines and the batcher against the libraries that they use, and against another tree."""
