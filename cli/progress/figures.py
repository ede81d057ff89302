"""How far a batch is, and how lengths of time and speeds are written: short, of steady width."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Total:
    """How far a batch of files is."""

    files: int
    done: int
    failed: int
    fraction: float
    """Share of the batch that is done, in [0, 1]."""
    audio_s: float
    """Audio of the files that are done."""
    rtfx: float | None
    """Seconds of audio per second since the batch began; None while nothing is transcribed."""
    eta_s: float | None
    """Seconds until the batch is done; None while they cannot be estimated."""

    def __str__(self) -> str:
        parts = [f"{self.done}/{self.files} done"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.audio_s:
            parts.append(f"{duration(self.audio_s)} of audio")
        if self.rtfx is not None:
            parts.append(f"RTFx {factor(self.rtfx)}")
        if self.eta_s is not None:
            parts.append(f"{duration(self.eta_s)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Write a length of time: 8.2 s, 4:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def clock_time(seconds: float) -> str:
    """Write a place in a recording: 0:08, 4:05, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def factor(number: float) -> str:
    """Write a speed, such as RTFx: 3.7, 148."""
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"
