"""The thread of a diarization worker that hears the voices of live utterances, one by one."""

import logging
import threading
import time

import redis

from shared.infra.errors import InternalError, LonghandError
from shared.infra.settings import Settings
from shared.queue.live import keys
from shared.queue.live.wire import Ask, Reply, decode_ask, encode_reply
from shared.speech.live.requests import LiveAnswer, LiveKind
from worker import metrics
from worker.diarization.voices import HearsVoices
from worker.live.answers import Answers
from worker.live.beats import Beats
from worker.live.hands import Hands
from worker.process import drain
from worker.steps.pcm import samples_of

log = logging.getLogger(__name__)

_AWAY_S = 0.2
"""Pause while Redis is away."""


class OneByOne:
    """How busy the thread is, for beats (``worker.live.beats.Device``)."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    is_loaded = True

    def live_capacity(self) -> int:
        """Return how many utterances are heard at once."""
        return 1

    def busy_s(self) -> float:
        """Return how long the one in hand still takes."""
        mean_s = self._hands.means_s.get(LiveKind.SPEAKER, 0.0)
        return mean_s if self._hands.ids() else 0.0

    def note_speech(self) -> None:
        """Do nothing: spans of jobs have threads of their own."""

    def reserve(self, *, is_reserved: bool) -> None:
        """Do nothing, for the same reason."""


class VoiceTaker:
    """Takes requests for one diarizer and answers them, until it is told to stop."""

    def __init__(self, settings: Settings, worker: str, model: str, hears: HearsVoices) -> None:
        """Start taking."""
        self._worker, self._hears = worker, hears
        self._hands = Hands()
        self._beats = Beats(settings, worker, model, OneByOne(self._hands), self._hands)
        self._answers = Answers(settings, self._hands)
        self._redis = keys.connect(settings, pops=True)
        self._take_script = self._redis.register_script(keys.TAKE)
        self._tickets = keys.tickets(model, LiveKind.SPEAKER)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="voice-taker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more; what is in hand is answered first."""
        self._closing = True
        self._thread.join()
        self._answers.close()
        self._beats.close()

    def _run(self) -> None:
        while not (self._closing or drain.has_begun()):
            try:
                if (ask := self._take()) is not None:
                    self._answer(ask)
            except redis.RedisError as error:  # the beats say so in the log
                log.debug("no live request is taken: %s", error)
                time.sleep(_AWAY_S)
            except Exception:  # a bug must not end the thread
                log.exception("unexpected error: no live request is taken")
                time.sleep(_AWAY_S)

    def _take(self) -> Ask | None:
        """Wait for a request; None: there was none for a while, or it is gone."""
        popped = self._redis.blpop([self._tickets], timeout=keys.POP_S)
        if popped is None:
            return None
        slots = keys.slots(LiveKind.SPEAKER)
        found = self._take_script(
            keys=[self._tickets, self._tickets], args=[1, slots, slots, popped[1], 1]
        )
        if not found:
            return None
        try:
            ask = decode_ask(*found)
        except (ValueError, KeyError, TypeError):
            log.exception("a live request of another version is dropped")
            return None
        return ask if self._hands.take(ask.request.id) else None

    def _answer(self, ask: Ask) -> None:
        request, begun = ask.request, time.monotonic()
        self._beats.send()
        outcome, voices, error_code = "heard", None, None
        try:
            voices = self._hears.voices(samples_of(request.pcm))
        except LonghandError as error:
            log.warning("the voices of a live request could not be heard: %s", error)
            outcome = error_code = error.code
        except Exception:
            log.exception("a live request met an unexpected error")
            outcome = error_code = InternalError.code
        took_s = time.monotonic() - begun
        took_ms = round(1000 * took_s, 1)
        answer = LiveAnswer(
            request.id,
            None,
            error_code,
            inference_ms=took_ms,
            batch_size=1,
            worker=self._worker,
            voices=voices,
        )
        self._hands.note_answer(request.id, request.kind)
        metrics.LIVE_REQUESTS.labels(request.kind, outcome).inc()
        metrics.LIVE_S.labels(request.kind).observe(took_s)
        self._answers.put(request.id, ask.api, encode_reply(Reply(answer, took_ms)))
