"""The HTTP API of Longhand itself: its routes and what they answer."""
