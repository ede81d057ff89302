"""The one error the command line shows to people: a single sentence, no traceback."""


class CommandError(Exception):
    """A command cannot do what was asked; ``str(error)`` is the one line that says why."""


def printable(text: str) -> str:
    """Return ``text`` as one harmless line: names may hold newlines, escapes or stray bytes."""
    text = "".join(" " if character.isspace() else character for character in text)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
