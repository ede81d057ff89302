"""The handlers of steps, one for each kind, and the runner that claims and completes for them."""
