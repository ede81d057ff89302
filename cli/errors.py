"""The one error that the command line shows to people: a single sentence, no traceback."""


class CommandError(Exception):
    """A command cannot do what was asked; ``str(error)`` is the sentence that says why."""


def os_reason(error: OSError) -> str:
    """Return the operating system's words for what failed, without error number and file name."""
    return error.strerror or str(error)
