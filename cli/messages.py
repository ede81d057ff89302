"""How a sentence becomes a line on stderr: who speaks, how grave it is, and nothing harmful in it.

Every line that the command line says of itself is made here. Progress lines begin with the name of
a file instead.
"""


def note(sentence: str) -> str:
    """Return the line of a note."""
    return one_line(f"longhand: {sentence}")


def warning(sentence: str) -> str:
    """Return the line of a warning."""
    return one_line(f"longhand: warning: {sentence}")


def error(sentence: str) -> str:
    """Return the line of an error."""
    return one_line(f"longhand: error: {sentence}")


def one_line(text: str) -> str:
    """Return ``text`` as one printable line.

    File names and servers' answers may hold newlines, terminal escapes or undecodable bytes.
    """
    text = "".join(" " if character.isspace() else character for character in text)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
