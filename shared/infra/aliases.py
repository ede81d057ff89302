"""Environment variables of other services that stand for settings of ours.

They count where the setting's own ``LONGHAND_`` variable is not set. Names that a machine may have
for any reason (``HOST``, ``DEVICE``, ``MODEL_ID``) are not among them.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource


def _as_it_is(value: str) -> str:
    return value


def _device(value: str) -> str:
    """Return the device without the number that torch appends, as in 'cuda:0'."""
    return value.partition(":")[0]


def _port(value: str) -> str | None:
    """Return the port; None for the address that Kubernetes puts there for a service 'stt'."""
    return None if "://" in value else value


@dataclass(frozen=True, slots=True)
class Alias:
    """What a variable stands for."""

    setting: str
    """A field of ``Settings``."""
    read: Callable[[str], str | None] = _as_it_is
    """Makes the setting's value of the variable's; None: the variable means something else."""


ALIASES: Mapping[str, Alias] = {
    "ASR_MODEL_ID": Alias("default_model"),
    "ASR_DEVICE": Alias("device", _device),
    "ASR_COMPUTE_TYPE": Alias("dtype"),
    "ASR_BATCH_SIZE": Alias("max_batch"),
    "ASR_CACHE_DIR": Alias("models_cache"),
    "PORT": Alias("listen_port", _port),
    "MAX_CONCURRENCY": Alias("max_calls"),
    "STT_HOST": Alias("listen_host"),
    "STT_PORT": Alias("listen_port", _port),
    "STT_WHISPER_MODEL": Alias("default_model"),
    "STT_COMPUTE_TYPE": Alias("dtype"),
    "STT_DEVICE": Alias("device", _device),
    "STT_LOG_LEVEL": Alias("log_level", str.upper),
    "STT_MAX_SESSIONS": Alias("live_max_sessions"),
    "STT_LANGUAGE": Alias("live_language"),
    "STT_VAD_ENABLED": Alias("live_vad"),
    "STT_VAD_THRESHOLD": Alias("live_vad_threshold"),
    "STT_VAD_MIN_SPEECH_MS": Alias("live_min_speech_ms"),
    "STT_VAD_MIN_SILENCE_MS": Alias("live_min_silence_ms"),
    "STT_PARTIAL_INTERVAL_MS": Alias("live_partial_interval_ms"),
    "STT_MAX_PARTIAL_WINDOW_S": Alias("live_partial_window_s"),
    "STT_MAX_UTTERANCE_S": Alias("live_max_utterance_s"),
    "STT_MAX_BUFFER_MS": Alias("live_max_buffer_ms"),
    "STT_MAX_QUEUE_DEPTH": Alias("live_max_queue_depth"),
    "STT_MAX_ESTIMATED_SERVER_TOTAL_MS": Alias("live_max_wait_ms"),
}
"""By variable. Of several that stand for one setting and are set, the last one counts."""


class AliasSource(PydanticBaseSettingsSource):
    """Reads settings from the variables of ``ALIASES``."""

    def __init__(
        self, settings_cls: type[BaseSettings], env: Mapping[str, str] | None = None
    ) -> None:
        """Read ``env``, by default the process's environment."""
        super().__init__(settings_cls)
        self._env = os.environ if env is None else env

    def get_field_value(
        self,
        field: FieldInfo,  # noqa: ARG002 - as the base class has it
        field_name: str,
    ) -> tuple[Any, str, bool]:
        """Return nothing: settings are read all at once, by calling this source."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the settings that variables stand for, by name."""
        return dict(self._found())

    def _found(self) -> Iterator[tuple[str, str]]:
        for variable, alias in ALIASES.items():
            value = self._env.get(variable, "").strip()
            if not value or alias.setting not in self.settings_cls.model_fields:
                continue
            if (read := alias.read(value)) is not None:
                yield alias.setting, read
