"""One attempt to deliver a webhook event, after Standard Webhooks (standardwebhooks.com)."""
