"""What Postgres keeps, one module or folder for each aggregate: its reads beside its writes.

Every function that is given an engine raises ``DatabaseUnavailable`` when Postgres cannot be
reached. Nothing was written then; after its subclass ``CommitUncertain`` only Postgres knows. Times
are the database's.
"""
