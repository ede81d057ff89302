"""Options of the `whisper` and `whisper-ctranslate2` commands, for people who are used to those.

An option that has a counterpart here is another name for it. An option that decides nothing here is
accepted with a note. An option that asks for a transcript that cannot be made here is refused.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

_COUNTERPARTS = {
    "output_dir": "output",
    "output_format": "format",
    "initial_prompt": "prompt",
    "max_line_width": "max-line-width",
    "max_line_count": "max-line-count",
    "max_words_per_line": "max-words-per-cue",
    "speaker_num": "speakers",
}
EPILOG = (
    f"--vad_filter, {', '.join(f'--{name}' for name in _COUNTERPARTS)} are as in "
    "whisper(-ctranslate2); options for device and decoding do nothing."
)
"""The end of the help of ``transcribe``."""

_DECIDE_NOTHING = (
    # The platform decides where and how a model runs, and how progress is shown.
    *("--device", "--device_index", "--compute_type", "--threads", "--fp16"),
    *("--batched", "--batch_size", "--model_dir", "--local_files_only"),
    *("--verbose", "--print_colors", "--pretty_json"),
    # Words always have times, and each chunk is decoded by itself.
    *("--word_timestamps", "--condition_on_previous_text", "--carry_initial_prompt"),
    # The catalogue decides how a model decodes.
    *("--temperature", "--temperature_increment_on_fallback", "--prompt_reset_on_temperature"),
    *("--best_of", "--beam_size", "--patience", "--length_penalty", "--repetition_penalty"),
    *("--no_repeat_ngram_size", "--suppress_blank", "--suppress_tokens"),
    *("--compression_ratio_threshold", "--logprob_threshold", "--no_speech_threshold"),
    *("--hallucination_silence_threshold", "--prepend_punctuations", "--append_punctuations"),
    *("--vad_onset", "--vad_threshold", "--vad_min_speech_duration_ms"),
    *("--vad_max_speech_duration_s", "--vad_min_silence_duration_ms"),
)
_SPEAKERS = "--speakers tells speakers apart here, without a token; names are given over the API"
_LIVE = "'longhand listen' transcribes live audio here"
_REFUSED = {
    "--highlight_words": "subtitles show no single words here; --format json has their times",
    "--clip_timestamps": "files are transcribed whole here; cut the part out first",
    "--prefix": "the beginning of the text cannot be given here; --prompt can",
    "--model_directory": "models come from the catalogue here; docs/models.md says how to add one",
    "--hf_token": _SPEAKERS,
    "--speaker_name": _SPEAKERS,
    "--live_transcribe": _LIVE,
    "--live_volume_threshold": _LIVE,
    "--live_input_device": _LIVE,
}
_IGNORED = "longhand.ignored"


def counterpart(name: str) -> str:
    """Return the name here of an option, both without dashes; click's ``token_normalize_func``."""
    return _COUNTERPARTS.get(name, name)


def whisper_options(command: _Command) -> _Command:
    """Declare the options that have no counterpart; the help leaves them out."""
    for name in (*_DECIDE_NOTHING, *_REFUSED):
        command = click.option(name, hidden=True, expose_value=False, callback=_take)(command)
    return command


def without_flags_values(arguments: list[str]) -> list[str]:
    """Return arguments as they are here, where flags have no value: ``--multilingual True``."""
    kept: list[str] = []
    for argument in arguments:
        if kept[-1:] == ["--multilingual"] and argument in ("True", "False"):
            if argument == "False":
                kept.pop()
        else:
            kept.append(argument)
    return kept


def _take(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    name = param.opts[0]
    if name in _REFUSED and value.lower() != "false":
        raise click.UsageError(f"{name}: {_REFUSED[name]}", ctx)
    ctx.meta.setdefault(_IGNORED, []).append(name)


def ignored(ctx: click.Context) -> str:
    """Return a sentence that names the given options that decide nothing; '' if there are none."""
    names: list[str] = ctx.meta.get(_IGNORED, [])
    if not names:
        return ""
    verb = "decides" if len(names) == 1 else "decide"
    return f"{', '.join(names)} {verb} nothing here; the platform and the catalogue do"


def vad_of_filter(
    _ctx: click.Context, _param: click.Parameter, vad_filter: bool | None
) -> str | None:
    """Return the voice activity detector that ``--vad_filter True`` or ``False`` means."""
    return {None: None, True: "silero", False: "off"}[vad_filter]
