"""When somebody begins to speak, pauses and has finished."""

from enum import Enum, auto

from shared.speech.audio.samples import Pcm
from shared.speech.audio.silero import WINDOW_SAMPLES
from shared.speech.audio.spans import Span
from shared.speech.audio.voice_activity import LOOK_BACK_SAMPLES
from shared.speech.live.options import LiveOptions, samples_of
from shared.speech.live.scores import Scorer

PAUSE = samples_of(200)
"""Silence after which a segment may well be over: its final is asked for ahead of time."""
GAP = samples_of(200)
"""Silence that divides a noise from what follows it."""
FADE = 0.15
"""Speech lasts while the score is no further than this below the one at which it begins."""
FORGET = samples_of(10_000)
"""The scorer forgets what it heard after silence as long as this: its memory drifts over hours."""


class Change(Enum):
    """What became certain with a window."""

    STARTED = auto()
    PAUSED = auto()
    RESUMED = auto()
    ENDED = auto()


class Activity:
    """Follows the speech of one stream."""

    def __init__(self, scorer: Scorer, options: LiveOptions, start: int = 0) -> None:
        """Listen from a position of the stream on."""
        self._scorer = scorer
        self.change(options)
        self.position = start
        """End of the windows that were scored."""
        self._lead_start, self._lead_end = start, start - GAP
        """Latest run of scores that would keep speech going."""
        self._onset = start
        self.speech_end = start
        """End of the last window with speech."""
        self._voiced = 0
        """Samples of the windows with speech since the onset; 0 in silence."""
        self._started = self._paused = False
        self._quiet_since = start

    def change(self, options: LiveOptions) -> None:
        """Go by other thresholds from the next window on."""
        self._enter, self._leave = options.threshold, max(options.threshold - FADE, 0.01)
        self._min_speech, self._min_silence = options.min_speech, options.min_silence

    @property
    def speech(self) -> Span | None:
        """The present speech, from the scores that led up to it to its last window; or none.

        It may be too short yet to have started.
        """
        return Span(self._onset, self.speech_end) if self._voiced else None

    @property
    def is_voiced(self) -> bool:
        """Whether somebody is speaking this moment."""
        return self._voiced > 0 and not self._paused

    def push(self, window: Pcm) -> Change | None:
        """Take the next WINDOW_SAMPLES."""
        start, self.position = self.position, self.position + WINDOW_SAMPLES
        score = self._scorer.score(window)
        if score >= self._leave:
            if start - self._lead_end >= GAP:
                self._lead_start = start
            self._lead_end = self.position
        if score >= (self._leave if self._voiced else self._enter):
            return self._hear(start)
        return self._hear_nothing()

    def restart(self) -> None:
        """Take what follows for new speech."""
        self._voiced = 0
        self._started = self._paused = False
        self._quiet_since = self._lead_start = self._lead_end = self.position

    def _hear(self, start: int) -> Change | None:
        if not self._voiced:
            self._onset = max(min(self._lead_start, start), start - LOOK_BACK_SAMPLES)
        self._voiced += WINDOW_SAMPLES
        self.speech_end = self._quiet_since = self.position
        if not self._started and self._voiced >= self._min_speech:
            self._started = True
            return Change.STARTED
        if self._paused:
            self._paused = False
            return Change.RESUMED
        return None

    def _hear_nothing(self) -> Change | None:
        silence = self.position - self._quiet_since
        if silence >= FORGET and silence % FORGET < WINDOW_SAMPLES:
            self._scorer.reset()
        if not self._voiced:
            return None
        if not self._started:
            if silence >= GAP:
                self._voiced = 0
            return None
        if silence >= self._min_silence:
            self.restart()
            return Change.ENDED
        if silence >= PAUSE and not self._paused:
            self._paused = True
            return Change.PAUSED
        return None
