"""Decoders in processes of their own, without rights: strangers' bytes in, plain samples out.

``server`` forks the processes ahead and ``confinement`` takes their rights away. In them ``files``
decodes a file and ``worker.media.live`` a stream. ``client`` is the worker's side.
"""
