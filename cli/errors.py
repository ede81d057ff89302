"""The one error the command line shows to people: a single sentence, no traceback."""


class CommandError(Exception):
    """A command cannot do what was asked; ``str(error)`` is the one line that says why."""
