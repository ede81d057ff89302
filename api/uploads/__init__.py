"""Uploads: files that come in before their jobs do, by presigned parts or by tus."""
