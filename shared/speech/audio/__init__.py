"""Samples: their types, their rate, where there is speech in them, and their place on a clock."""
