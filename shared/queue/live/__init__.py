"""Live requests on their way through Redis, from the API to model workers and back."""
