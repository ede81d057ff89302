"""How far one platform goes: ``python -m bench fleet``; docs/scale.md.

``costs`` has what a job and a chunk ask of each part, and what that comes to for so many hours of
audio. ``busy`` has what many model workers get done whose device is a sleep.
"""
