"""Live audio, without any I/O: what a session does with the audio that one talker sends."""
