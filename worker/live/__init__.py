"""Live requests in a model worker: taken when the device is about to be free, and answered."""
