"""All live sessions of this process: who may begin one, and how they end when it stops."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from api.limits.live_usage import LiveUsage
from api.limits.places import Places
from api.live.checkpoints import Checkpoints
from api.live.decoders import Decoders
from api.live.errors import SERVICE_RESTART, TRY_AGAIN_LATER, LiveError
from api.live.hearer import Hearer, LiveLoad
from shared.infra.errors import ModelError, RequestError, TooManyAtOnce
from shared.infra.settings import Settings
from shared.models.catalogue import Catalogue, Model
from shared.models.choice import choose_model, served_supply
from shared.models.options import AskedSpeakers, JobOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.live.options import LiveOptions, samples_of
from shared.speech.live.scores import make_scorer

_LATENCY_BUCKETS_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 2, 5)
_CONNECTIONS_PER_SESSION = 2
"""Connections that have no session yet, or not any more, count as well."""
_CLOSE_S = 1.0
"""How long a stopping server waits for connections that it closes."""

Encoding = Literal["pcm_s16le", "pcm_mulaw", "pcm_alaw", "webm_opus", "container"]
"""What a session's binary messages are. Of a ``container`` the format is found out."""
LEAST_SILENCE_MS = 200.0
"""Least silence that may end a segment. A shorter pause is within a sentence as often as after it,
and each segment costs a decoding."""
SampleRate = Literal[8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
"""Of a session's PCM."""


class Drainable(Protocol):
    """A connection that can be told to come to its end."""

    def drain(self) -> None:
        """End the session at the next pause, and close the connection."""
        ...

    def end_now(self) -> None:
        """Do so without waiting for a pause."""
        ...

    def restart(self) -> None:
        """Close the connection at once."""
        ...


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asks of a session; None: it does not say."""

    job: JobOptions
    """Its model, language, task, prompt, hotwords and edits, and whether speakers are told."""
    vad: bool | None = None
    threshold: float | None = None
    partials: bool = True
    encoding: Encoding = "pcm_s16le"
    sample_rate: int = SAMPLE_RATE
    """Of PCM; a container has its own."""
    min_silence_ms: float | None = None
    """Silence that ends a segment."""


@dataclass(frozen=True, slots=True)
class LiveMetrics:
    """What Prometheus is told."""

    sessions: Gauge
    ended: Counter
    audio_s: Counter
    answer_s: Histogram

    @classmethod
    def of(cls, registry: CollectorRegistry) -> "LiveMetrics":
        """Register them."""
        return cls(
            Gauge("longhand_live_sessions", "Live sessions under way.", registry=registry),
            Counter(
                "longhand_live_sessions_ended",
                "Live sessions that ended, by reason.",
                ["reason"],
                registry=registry,
            ),
            Counter(
                "longhand_live_audio_seconds", "Audio that live sessions sent.", registry=registry
            ),
            Histogram(
                "longhand_live_answer_seconds",
                "Time from a live request to its answer.",
                ["kind"],
                buckets=_LATENCY_BUCKETS_S,
                registry=registry,
            ),
        )


class LiveSessions:
    """The sessions of one application. For use on its event loop."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        hearer: Hearer,
        metrics: LiveMetrics,
        usage: LiveUsage,
        limit_of: Callable[[str], int],
    ) -> None:
        """Connect to nothing yet; ``limit_of`` returns how many sessions a tenant may have."""
        self.settings = settings
        self.hearer = hearer
        self.metrics = metrics
        self.checkpoints = Checkpoints(settings)
        self.decoders = Decoders()
        self._catalogue = catalogue
        self.usage = usage
        most = settings.live_max_sessions
        self._session_places = Places(most, "live sessions", limit_of)
        self._connection_places = Places(_CONNECTIONS_PER_SESSION * most, "live connections")
        self._connections: dict[Drainable, str] = {}
        """Open ones, and their tenants."""
        self._active: dict[tuple[str, str], str] = {}
        """Sessions under way: tenant and id, and the model."""
        self._all_gone = asyncio.Event()
        self._is_prepared = False
        self.is_draining = False
        self.n_requests = 0
        self.n_refused = 0
        """Sessions and requests since the start that were refused for want of capacity."""

    @property
    def n_active(self) -> int:
        """Sessions under way."""
        return len(self._active)

    async def prepare(self) -> None:
        """Load the voice activity detector, once, without holding up other sessions."""
        if not self._is_prepared:
            with contextlib.suppress(ModelError):  # the session that needs it will say so
                await asyncio.to_thread(make_scorer, "silero")
            self._is_prepared = True

    def take(self, connection: Drainable, tenant: str) -> bool:
        """Count a connection, unless there are too many.

        Raises:
            TooManyAtOnce: the tenant has its share of them.
        """
        if self.is_draining or not self._connection_places.take(tenant):
            return False
        self._connections[connection] = tenant
        return True

    def leave(self, connection: Drainable) -> None:
        """Forget a connection that is closed."""
        self._connection_places.give_back(self._connections.pop(connection))
        if not self._connections:
            self._all_gone.set()

    def begin(self, tenant: str, session_id: str, wish: Wish) -> LiveOptions:
        """Count a session that begins now, and return what it is to do.

        Raises:
            LiveError: there is such a session, it cannot be done, or nobody could hear it.
        """
        if (tenant, session_id) in self._active:
            raise LiveError("SESSION_EXISTS", f"Session '{session_id}' is under way.")
        options = self.options_of(wish)
        try:
            self._check_room(options.model)
            self._session_places.take(tenant)
        except TooManyAtOnce as error:
            self.n_refused += 1
            raise LiveError("MAX_SESSIONS_REACHED", f"{error}.", TRY_AGAIN_LATER) from error
        except LiveError:
            self.n_refused += 1
            raise
        self._active[tenant, session_id] = options.model
        self.metrics.sessions.inc()
        return options

    def end(self, tenant: str, session_id: str, reason: str) -> None:
        """Count a session that has ended."""
        del self._active[tenant, session_id]
        self._session_places.give_back(tenant)
        self.metrics.sessions.dec()
        self.metrics.ended.labels(reason).inc()

    def options_of(self, wish: Wish) -> LiveOptions:
        """Return what follows from a client's wishes.

        Raises:
            LiveError: they cannot be fulfilled.
        """
        settings = self.settings
        model = self.choose(wish.job)
        has_vad = settings.live_vad if wish.vad is None else wish.vad
        return LiveOptions(
            model=model.id,
            language=wish.job.language or model.only_language,
            task=wish.job.task,
            hotwords=wish.job.hotwords,
            prompt=wish.job.prompt,
            vad=model.vad if has_vad else "off",
            threshold=settings.live_vad_threshold if wish.threshold is None else wish.threshold,
            partials=wish.partials,
            min_speech=samples_of(settings.live_min_speech_ms),
            min_silence=samples_of(wish.min_silence_ms or settings.live_min_silence_ms),
            partial_interval=samples_of(settings.live_partial_interval_ms),
            partial_window=samples_of(1000 * min(settings.live_partial_window_s, model.window_s)),
            max_utterance=samples_of(1000 * min(settings.live_max_utterance_s, model.window_s)),
        )

    def diarizer(self) -> str | None:
        """Return the id of the model that tells speakers apart; None: no worker serves one."""
        served = (each for each in self._catalogue.diarizers if self.hearer.load(each).workers)
        return next(served, None)

    def default_model(self) -> Model | None:
        """Return the model of a session that names none; None: there is none to choose."""
        try:
            return self.choose(JobOptions(language=self.settings.live_language or None))
        except LiveError:
            return None

    def is_full(self, load: LiveLoad) -> bool:
        """Whether as many requests wait for a model's workers as may."""
        return load.depth >= self.settings.live_max_queue_depth * max(1, load.workers)

    def accepts(self, model: str) -> bool:
        """Whether a session for this model could begin now."""
        try:
            self._check_room(model)
        except LiveError:
            return False
        return True

    async def drain(self, pause_s: float, final_s: float) -> None:
        """End all sessions, each at its next pause if that comes within ``pause_s``.

        Their finals may take ``final_s`` more; then the connections are closed.
        """
        self.is_draining = True
        for connection in tuple(self._connections):
            connection.drain()
        if await self._are_gone_within(pause_s):
            return
        for connection in tuple(self._connections):
            connection.end_now()
        if await self._are_gone_within(final_s):
            return
        for connection in tuple(self._connections):
            connection.restart()
        await self._are_gone_within(_CLOSE_S)

    async def _are_gone_within(self, limit_s: float) -> bool:
        """Wait until all connections are closed, and return whether they are."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._connections:
                    self._all_gone.clear()
                    await self._all_gone.wait()
        return not self._connections

    def _check_room(self, model: str) -> None:
        if self.is_draining:
            raise LiveError("QUEUE_CONGESTION", "The server is about to stop.", SERVICE_RESTART)
        most = self.settings.live_max_sessions
        if self.n_active >= most:
            raise LiveError(
                "MAX_SESSIONS_REACHED", f"Sessions: {self.n_active}/{most}.", TRY_AGAIN_LATER
            )
        load = self.hearer.load(model)
        if not load.workers:
            raise LiveError("QUEUE_CONGESTION", f"No worker serves '{model}' now.", TRY_AGAIN_LATER)
        if self.is_full(load):
            most = self.settings.live_max_queue_depth * load.workers
            raise LiveError("QUEUE_FULL", f"Queue full: {load.depth}/{most}.", TRY_AGAIN_LATER)
        # A slow machine serves one talker still.
        if load.wait_ms > self.settings.live_max_wait_ms and model in self._active.values():
            raise LiveError(
                "QUEUE_CONGESTION",
                f"An answer would take {load.wait_ms:.0f} ms, more than "
                f"{self.settings.live_max_wait_ms:.0f} ms.",
                TRY_AGAIN_LATER,
            )

    def choose(self, asked: JobOptions) -> Model:
        """Return the model that a session gets.

        Raises:
            LiveError: none can do what is asked.
        """
        served = [model for model in self._catalogue.models if self.hearer.load(model).workers]
        try:
            if isinstance(asked.speakers, AskedSpeakers):
                asked.speakers.check()
            return choose_model(
                asked, served_supply(self._catalogue, self.settings.default_model, served)
            ).model
        except RequestError as error:
            raise LiveError("INVALID_MESSAGE", str(error)) from error
