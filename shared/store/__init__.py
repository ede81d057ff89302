"""What Postgres keeps, one module or folder for each aggregate: its reads beside its writes."""
