"""The page at ``/``: its files, its login, its stream of jobs."""
