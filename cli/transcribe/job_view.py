"""A job as the server describes it."""

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class JobView:
    """What ``GET /jobs/{id}`` says of a job, as far as the command line shows it."""

    id: str
    state: str
    stage: str
    chunks_done: int
    chunks_total: int
    """Planned so far: more come while the audio is being decoded."""
    percent: float | None
    """Of the audio, transcribed; None while the server cannot tell."""
    rtfx: float | None
    """Seconds of audio per second; None before the first chunk is done."""
    eta_s: float | None
    """Seconds until all is transcribed; None where ``rtfx`` is."""
    duration_s: float | None
    """Length of the audio; None until it is decoded."""
    cached: bool
    """Whether the transcript is that of an equal, earlier job."""
    waiting_for: str | None
    """What it cannot go on without; None: nothing, or its turn."""
    warnings: tuple[str, ...]
    """Reasons to read the transcript with care, a sentence each."""
    error: str | None
    """Why it failed, in one sentence."""
    error_code: str | None

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        """Read a job as the API sends it; only ``id`` and ``state`` must be there.

        Raises:
            KeyError: one of them is missing.
        """
        progress = body.get("progress") or {}
        transcript = body.get("transcript") or {}
        error = body.get("error")
        waiting_for = body.get("waiting_for")
        return cls(
            id=body["id"],
            state=body["state"],
            stage=progress.get("stage") or body["state"],
            chunks_done=progress.get("chunks_done") or 0,
            chunks_total=progress.get("chunks_total") or 0,
            percent=progress.get("percent"),
            rtfx=progress.get("rtfx"),
            eta_s=progress.get("eta_s"),
            duration_s=body.get("duration_s"),
            cached=bool(body.get("cached")),
            waiting_for=waiting_for["detail"] if waiting_for else None,
            warnings=tuple(f"{w['detail']} ({w['code']})" for w in transcript.get("warnings", ())),
            error=error["detail"] if error else None,
            error_code=error.get("code") if error else None,
        )

    @property
    def ended(self) -> bool:
        """Whether the job has reached a state that it does not leave."""
        return self.state in ("succeeded", "failed", "canceled")
