"""What everything stands on: settings, errors, Postgres, S3, outbound requests."""
