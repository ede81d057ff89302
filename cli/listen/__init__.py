"""From live audio to lines of text: sound, the session with a server, what is shown."""
