"""Webhooks: endpoints, deliveries of events to them, and attempts."""
