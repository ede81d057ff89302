"""Written language: its scripts, sentences, numbers and names, and how far two texts differ."""
