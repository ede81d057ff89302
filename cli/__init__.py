"""The `longhand` command."""
