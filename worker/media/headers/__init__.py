"""What FFmpeg does not read of headers: promised lengths, joined files, what misleads FFmpeg."""
