"""What a job costs the platform, counted at the wire: ``python -m bench cost``.

A tree of the source is measured from outside: its platform is started by its own command line, and
Postgres, Valkey and the S3 server say what reached them. So one program measures every version, and
two of them side by side.
"""
