"""Lengths of time and speeds as progress shows them: short, and of steady width."""


def duration(seconds: float) -> str:
    """Write a length of time: 8.2 s, 4:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def factor(number: float) -> str:
    """Write a speed, such as RTFx: 3.7, 148."""
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"
