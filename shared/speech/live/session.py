"""A session of live audio: samples and answers go in, requests and events come out.

Nothing here waits, reads a clock or does any input or output. Time is the number of samples
received, so a session does the same with the same audio, however that was cut into messages.
"""

from collections import deque
from collections.abc import Callable
from uuid import uuid4

import numpy as np

from shared.speech.audio.samples import Pcm
from shared.speech.audio.silero import WINDOW_SAMPLES
from shared.speech.audio.spans import Span
from shared.speech.audio.voice_activity import LOOK_BACK_SAMPLES
from shared.speech.live.activity import Activity, Change
from shared.speech.live.audio import AudioRing
from shared.speech.live.events import (
    Ask,
    Cause,
    Drop,
    Effect,
    Ended,
    EndReason,
    SpeechEnded,
    SpeechStarted,
)
from shared.speech.live.options import LiveOptions, samples_of
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest
from shared.speech.live.scores import Scorer, make_scorer
from shared.speech.live.segment import UNSURE, Ahead, Asked, Segment

PRE_ROLL = samples_of(300)
"""Audio before the first window with speech that belongs to a segment: its first word is whole."""
_STRETCH = 4
"""Partials become rarer by up to this factor while they are answered late."""
_QUIET = samples_of(120)
"""A segment at its limit is cut in the middle of the quietest stretch of this length."""


def _make_id() -> str:
    return uuid4().hex


class LiveSession:
    """The session of one talker.

    Every method returns what is to be done now, in order. Segments never overlap, and the events of
    one all come before those of the next.
    """

    def __init__(
        self,
        options: LiveOptions,
        scorer: Scorer | None = None,
        make_id: Callable[[], str] = _make_id,
        start: int = 0,
        n_finals: int = 0,
    ) -> None:
        """Begin at sample ``start``, after ``n_finals`` finals that were told before.

        Raises:
            ModelError: the voice activity detector's model is not installed.
        """
        self.options = options
        self._make_id = make_id
        self._ring = AudioRing(start)
        self._activity = Activity(scorer or make_scorer(options.vad), options, start)
        self._segments: deque[Segment] = deque()
        """Those whose final is not out, in order; only the last one may be open."""
        self._asked: dict[str, Asked] = {}
        self._floor = start
        """End of the last closed segment."""
        self._stretch = 1
        self._n_finals = n_finals
        self._ending: EndReason | None = None
        self._is_over = False
        self._effects: list[Effect] = []

    @property
    def n_samples(self) -> int:
        """Position after the last sample received."""
        return self._ring.end

    @property
    def is_speaking(self) -> bool:
        """Whether a segment is open."""
        return self._open is not None

    @property
    def is_over(self) -> bool:
        """Whether ``Ended`` is out."""
        return self._is_over

    @property
    def settled(self) -> int:
        """Position before which no audio is needed any more: its finals are out."""
        return self._segments[0].start if self._segments else self._unheard

    @property
    def is_waiting(self) -> bool:
        """Whether a final is still to come of what was said."""
        return bool(self._segments)

    @property
    def quiet_until(self) -> int:
        """Position up to which nobody has spoken since the last final that is out."""
        return self._segments[0].start if self._segments else self._ring.end

    @property
    def backlog(self) -> int:
        """Samples of closed segments that wait for their final, without the first of these."""
        closed = [segment for segment in self._segments if segment.end is not None]
        return sum((segment.end or 0) - segment.start for segment in closed[1:])

    def change(self, options: LiveOptions) -> None:
        """Have what follows done with other options, of the same model and detector."""
        self.options = options
        self._activity.change(options)

    def push(self, pcm: bytes) -> list[Effect]:
        """Take audio: s16le, any number of bytes."""
        if self._ending is None:
            self._ring.append(pcm)
            while self._ring.end - self._activity.position >= WINDOW_SAMPLES:
                start = self._activity.position
                window = self._ring.samples(start, start + WINDOW_SAMPLES)
                self._follow(self._activity.push(window))
            self._forget()
        return self._take()

    def flush(self) -> list[Effect]:
        """End the present segment. One final follows; it is empty if nobody spoke."""
        if self._ending is None and not self._end_speech(Cause.FLUSH):
            silence = self._begin(max(self._floor, self._ring.end))
            silence.end, silence.cause = silence.start, Cause.FLUSH
            silence.finish(None, silence.start)
        return self._take()

    def discard(self) -> list[Effect]:
        """Forget what was said since the last segment; no final follows."""
        if self._ending is None:
            if (segment := self._open) is not None:
                self._segments.pop()
                self._effects.append(Drop(segment.id))
                asked = self._asked.items()
                self._asked = {each: what for each, what in asked if what.segment is not segment}
            self._floor = self._ring.end
            self._activity.restart()
        return self._take()

    def stall(self) -> list[Effect]:
        """End the present segment, as no audio has come for long."""
        if self._ending is None:
            self._end_speech(Cause.ENDPOINT)
        return self._take()

    def end(self, reason: EndReason = EndReason.COMPLETED) -> list[Effect]:
        """Take no more audio; ``Ended`` follows the last final."""
        if self._ending is None:
            self._end_speech(Cause.END)
            self._ending = reason
        return self._take()

    def cancel(self, reason: EndReason = EndReason.CANCELLED) -> list[Effect]:
        """Drop everything: no text follows, only ``Ended``."""
        self._effects += [Drop(segment.id) for segment in self._segments]
        self._segments.clear()
        self._asked.clear()
        self._ending = reason
        return self._take()

    def answer(self, answer: LiveAnswer) -> list[Effect]:
        """Take what a model worker heard, or failed to hear."""
        asked = self._asked.pop(answer.id, None)
        if asked is not None and asked.segment.final == answer.id:
            asked.segment.finish(answer, asked.start)
        elif asked is not None and asked.segment.end is None:
            self._hear(answer, asked)
        return self._take()

    @property
    def _open(self) -> Segment | None:
        """The segment that still grows."""
        return self._segments[-1] if self._segments and self._segments[-1].end is None else None

    def _follow(self, change: Change | None) -> None:
        """Do what a window of audio calls for."""
        position, segment = self._activity.position, self._open
        if change is Change.STARTED:
            speech = self._activity.speech
            assert speech is not None
            segment = self._begin(self._start_of(speech))
            if self.options.vad != "off":
                segment.announced = True
                segment.events.append(SpeechStarted(speech.start))
        if segment is None:
            return
        if change is Change.ENDED:
            self._close(segment, position, Cause.ENDPOINT)
        elif position > segment.limit - 2 * WINDOW_SAMPLES:  # what is not scored yet has room
            segment = self._divide(segment)
        elif change is Change.PAUSED:
            request = self._ask(LiveKind.FINAL, segment, segment.start, position)
            segment.ahead = Ahead(request, position)
        elif change is Change.RESUMED:
            segment.ahead = None
        if segment.end is None and self.options.partials and self._activity.is_voiced:
            self._ask_partial(segment, position)

    def _ask_partial(self, segment: Segment, position: int) -> None:
        """Ask for a partial if it is time; the longer the answers take, the rarer that is."""
        if position < segment.partial_due:
            return
        if segment.partial in self._asked:
            if self._stretch == _STRETCH:
                return
            self._stretch *= 2
        else:
            self._stretch = max(1, self._stretch // 2)
        start = segment.window(position, self.options.partial_window)
        segment.partial = self._ask(LiveKind.PARTIAL, segment, start, position)
        segment.partial_due = position + self._stretch * self.options.partial_interval

    def _hear(self, answer: LiveAnswer, asked: Asked) -> None:
        """Take an answer about an open segment."""
        segment, ahead = asked.segment, asked.segment.ahead
        is_preflight = ahead is not None and ahead.request == answer.id
        if ahead is not None and is_preflight:
            if answer.hypothesis is None:
                segment.ahead = None
            else:
                ahead.answer = answer
        if not segment.hear(answer, asked) or not self.options.partials:
            return
        if is_preflight:
            segment.show_all(answer, is_preflight=True)
        else:
            segment.show(answer, asked.end - UNSURE)

    def _begin(self, start: int) -> Segment:
        segment = Segment(self._make_id(), start, start + self.options.max_utterance)
        self._segments.append(segment)
        return segment

    def _end_speech(self, cause: Cause) -> bool:
        """Close the open segment, or one for speech that is short; return whether there was any."""
        segment, speech = self._open, self._activity.speech
        if segment is None and speech is not None:
            segment = self._begin(self._start_of(speech))
        if segment is None:
            return False
        self._close(segment, self._ring.end, cause)
        self._activity.restart()
        return True

    def _close(self, segment: Segment, end: int, cause: Cause) -> None:
        """End a segment, with the final that was asked for ahead or one that is asked for now."""
        if segment.announced:
            segment.events.append(SpeechEnded(self._activity.speech_end))
        segment.cause, ahead = cause, segment.ahead
        if ahead is None:
            segment.end = end
            segment.final = self._ask(LiveKind.FINAL, segment, segment.start, end)
        else:
            segment.end, segment.final = ahead.end, ahead.request
            if ahead.answer is not None:
                segment.finish(ahead.answer, segment.start)
        self._floor = segment.end

    def _divide(self, segment: Segment) -> Segment:
        """End a segment that is as long as it may be, and return the next one: speech goes on."""
        samples = self._ring.samples(segment.earliest_cut, self._activity.position)
        cut = segment.earliest_cut + quietest(samples)
        announced, segment.announced, segment.ahead = segment.announced, False, None
        self._close(segment, cut, Cause.LIMIT)
        following = self._begin(cut)
        following.announced = announced
        following.agreement = segment.carry_over(cut)
        if self.options.partials:
            following.show_all(None)
        return following

    def _ask(self, kind: LiveKind, segment: Segment, start: int, end: int) -> str:
        request = LiveRequest(
            id=self._make_id(),
            segment=segment.id,
            kind=kind,
            model=self.options.model,
            pcm=self._ring.cut(start, end),
            language=self.options.language,
            task=self.options.task,
            hotwords=self.options.hotwords,
            prompt=self.options.prompt,
        )
        commits = kind is LiveKind.FINAL and self.options.partials
        self._asked[request.id] = Asked(segment, start, end, commits)
        self._effects.append(Ask(request))
        return request.id

    def _start_of(self, speech: Span) -> int:
        """Return where a segment begins that has this speech."""
        return max(self._floor, speech.start - PRE_ROLL)

    def _forget(self) -> None:
        """Drop audio that no request can need."""
        segment = self._open
        start = self._unheard if segment is None else segment.start
        # A segment may have ended with samples that are not scored yet.
        self._ring.forget(min(start, self._activity.position))

    @property
    def _unheard(self) -> int:
        """Where the next segment begins at the earliest."""
        speech = self._activity.speech
        if speech is not None:
            return self._start_of(speech)
        return max(self._floor, self._activity.position - LOOK_BACK_SAMPLES - PRE_ROLL)

    def _take(self) -> list[Effect]:
        """Return what has come up, with the events whose turn it is."""
        while self._segments:
            first = self._segments[0]
            self._effects += first.events
            first.events.clear()
            if not first.is_done:
                break
            self._segments.popleft()
            self._n_finals += 1
        if self._ending is not None and not self._segments and not self._is_over:
            self._is_over = True
            self._effects.append(Ended(self._ending, self._ring.end, self._n_finals))
        effects, self._effects = self._effects, []
        return effects


def quietest(samples: Pcm) -> int:
    """Return the middle of the quietest stretch of ``_QUIET`` samples; shape (n_samples,)."""
    power = np.square(samples, dtype=np.float64)
    if len(power) <= _QUIET:
        return len(power) // 2
    totals = np.cumsum(np.concatenate([[0.0], power]))
    return int((totals[_QUIET:] - totals[:-_QUIET]).argmin()) + _QUIET // 2
