"""Limits: what a tenant may have, and what the platform takes."""
