"""Asks whose voices are in a session's finals, beside what is said in them."""

import asyncio
from dataclasses import replace
from uuid import uuid4

from api.live.sessions import LiveSessions
from shared.models.options import AskedSpeakers, JobOptions, edits_of
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest
from shared.speech.live.wording import Wording
from shared.speech.speakers.online import MAX_SPEAKERS, OnlineSpeakers
from shared.speech.speakers.voices import Voice

WAIT_S = 0.5
"""How long a final that is heard waits for its voices: then it goes out without speakers."""


class Voices:
    """The voices of one session's utterances."""

    def __init__(self, live: LiveSessions) -> None:
        self._live = live

    async def hear(self, request: LiveRequest) -> LiveAnswer:
        """Return the answer to a request for a final, with its voices if they come in time.

        Both are asked for at once.
        """
        asking = asyncio.create_task(self._ask(request))
        try:
            answer = await self._live.hearer.hear(request)
            if answer.hypothesis is not None:
                await asyncio.wait({asking}, timeout=WAIT_S)
            return replace(answer, voices=asking.result() if asking.done() else None)
        finally:
            asking.cancel()

    async def _ask(self, request: LiveRequest) -> tuple[Voice, ...] | None:
        diarizer = self._live.diarizer()
        if diarizer is None:
            return None
        asked = LiveRequest(uuid4().hex, request.segment, LiveKind.SPEAKER, diarizer, request.pcm)
        return (await self._live.hearer.hear(asked)).voices


def wording_of(asked: JobOptions, speakers: str) -> Wording:
    """Return how a session tells its words.

    Args:
        asked: its edits, and whether speakers are told; of their number the most counts.
        speakers: those whom an earlier connection has told of; empty: none.
    """
    if asked.speakers is False:
        return Wording(edits_of(asked))
    most = MAX_SPEAKERS
    if isinstance(asked.speakers, AskedSpeakers):
        most = asked.speakers.count or asked.speakers.max or MAX_SPEAKERS
    return Wording(edits_of(asked), OnlineSpeakers.from_json(speakers, most))
