"""What OpenAI's parameters mean here, and where the members of its answers come from."""

from collections.abc import Sequence

from api.dialects.parameters import (
    Operation,
    accepted,
    aliased,
    computed,
    ignored,
    left_out,
    refused,
    sent,
)

MODELS: Sequence[str] = ("whisper-1", "gpt-*")

_KNOWN = "speakers are told apart here, not recognized; name them by PATCH /jobs/{id}/speakers"
_STREAMED = "speakers are known at the end: `diarized_json` is not streamed"
_LIVE = "speakers are told apart in files alone"

_FILE = accepted("file", "any container and codec, a video's sound too")
_MODEL = aliased(
    "model",
    "a model of ours by its id; `whisper-1` and `gpt-*` are the model that a job gets which names "
    "none; `LONGHAND_MODEL_ALIASES` may say otherwise; a name that nobody knows is an error",
)
_PROMPT = accepted(
    "prompt", "of a longer one the last 1,000 characters count; an error if the model takes none"
)
_TEMPERATURE = refused(
    "temperature",
    "decoding begins at 0 here, and is raised where the result fails checks",
    "0",
    "0.0",
)

_CUTS = "the cuts are our own, and no word is lost at one"

_TEXT = sent("text")
_LANGUAGES = computed(
    "languages[].code", "the one language that was given or detected; empty if none was"
)
_LOGPROBS = (
    computed("logprobs[].token", "a word with the separator before it, not a token of the model"),
    computed("logprobs[].bytes", "of that word in UTF-8"),
    computed("logprobs[].logprob", "of the word's confidence; null where the engine gives none"),
)
_USAGE = (*sent("usage.type"), computed("usage.seconds", "the decoded length of the audio"))
_NO_TOKENS = tuple(
    left_out(f"usage.{name}", "nothing is billed by tokens: the type is `duration`")
    for name in (
        *("input_tokens", "output_tokens", "total_tokens"),
        *("input_token_details.audio_tokens", "input_token_details.text_tokens"),
    )
)
_VERBOSE = (
    *sent("duration", "text"),
    computed("language", "the English name, as `english`; `unknown` where the engine tells none"),
)
_SEGMENTS = (
    *sent("segments[].id", "segments[].start", "segments[].end"),
    computed("segments[].text", "with the separator before it: joined, they are the text"),
    computed("segments[].seek", "the start of what the model heard at once, in units of 10 ms"),
    computed("segments[].tokens", "of the model, as Whispers have them; empty for other engines"),
    computed("segments[].temperature", "at which the segment's first word was decoded; others: 0"),
    computed(
        "segments[].avg_logprob",
        "of the window in which a Whisper heard its first word; other engines: the mean logarithm "
        "of its words' confidences, 0 where there is none",
    ),
    computed("segments[].compression_ratio", "likewise of the window; other engines: of its text"),
    computed("segments[].no_speech_prob", "likewise of the window; other engines: 0"),
)

TRANSCRIPTION = Operation(
    "POST /v1/audio/transcriptions",
    takes=(
        _FILE,
        _MODEL,
        accepted("language", "an ISO 639 code, or what means one"),
        accepted(
            "languages", "one; several are refused: the language is detected if none is given"
        ),
        aliased("keywords", "`hotwords`, for models that take them"),
        _PROMPT,
        accepted(
            "response_format",
            "`json`, `text`, `srt`, `vtt`, `verbose_json`, or `diarized_json`, an error where no "
            "worker tells speakers apart",
        ),
        _TEMPERATURE,
        accepted("include", "`logprobs`, with `json`"),
        accepted("timestamp_granularities", "`word`, `segment`; with `verbose_json`"),
        accepted(
            "stream", "with `json` or `text`, for any model; the text of `done` is the authority"
        ),
        accepted("chunking_strategy", "`auto`: audio is cut where nobody speaks in any case"),
        accepted("chunking_strategy.type", "`server_vad`, which is what `auto` does"),
        ignored("chunking_strategy.prefix_padding_ms", _CUTS),
        ignored("chunking_strategy.silence_duration_ms", _CUTS),
        refused(
            "chunking_strategy.threshold", "what counts as speech cannot be tuned for files", "0.5"
        ),
        refused("known_speaker_names", _KNOWN),
        refused("known_speaker_references", _KNOWN),
    ),
    answers=(
        *_TEXT,
        _LANGUAGES,
        *_LOGPROBS,
        *_USAGE,
        *_NO_TOKENS,
    ),
    says="`text`, `srt` and `vtt` come as `text/plain`.",
)

DIARIZED = Operation(
    "`diarized_json`",
    answers=(
        *sent("task", "duration", "text"),
        computed("segments[].type", "`transcript.text.segment`"),
        computed("segments[].id", "`seg_` and its number"),
        *sent("segments[].start", "segments[].end", "segments[].text"),
        computed("segments[].speaker", "A, B and so on, or `unknown`"),
        *_USAGE,
        *_NO_TOKENS,
    ),
)

VERBOSE = Operation(
    "`verbose_json`",
    answers=(
        *_VERBOSE,
        *_SEGMENTS,
        *sent("words[].word", "words[].start", "words[].end"),
        *_USAGE,
    ),
)

STREAM = Operation(
    "`stream=true`",
    answers=(
        computed(
            "transcript.text.delta: delta",
            "what the chunks say that are done, in the order of time",
        ),
        computed("transcript.text.delta: logprobs", "as above, if they are included"),
        left_out("transcript.text.delta: segment_id", _STREAMED),
        left_out("transcript.text.segment", _STREAMED),
        *sent("transcript.text.done: text"),
        computed("transcript.text.done: languages", "as above"),
        computed("transcript.text.done: logprobs", "as above, if they are included"),
        left_out("transcript.text.done: usage", "it counts tokens, and nothing is billed by them"),
    ),
)

TRANSLATION = Operation(
    "POST /v1/audio/translations",
    takes=(
        _FILE,
        _MODEL,
        _PROMPT,
        accepted("response_format", "`json`, `text`, `srt`, `vtt`, `verbose_json`"),
        _TEMPERATURE,
    ),
    answers=_TEXT,
    says="The model must be one that can translate.",
)

VERBOSE_TRANSLATION = Operation(
    "`verbose_json` of a translation",
    answers=(*sent("duration", "text"), computed("language", "`english`"), *_SEGMENTS),
)

_INPUT = "audio.input"
_REPLIES = "there are no replies here, spoken or written"

REALTIME = Operation(
    "WS /v1/realtime?intent=transcription",
    takes=(
        accepted("type", "`transcription`"),
        accepted(f"{_INPUT}.format.type", "`audio/pcm`: 16 bits, mono; `pcm16` in the beta"),
        accepted(f"{_INPUT}.format.rate", "24000"),
        aliased(f"{_INPUT}.transcription.model", "as in transcriptions"),
        accepted(f"{_INPUT}.transcription.language", "an ISO 639 code, or what means one"),
        accepted(f"{_INPUT}.transcription.languages", "one, as in transcriptions"),
        accepted(f"{_INPUT}.transcription.prompt", "of a longer one the last 1,000 characters"),
        aliased(
            f"{_INPUT}.transcription.keywords",
            "words to expect, an error if the model takes none",
        ),
        ignored(f"{_INPUT}.transcription.delay", "text comes as soon as it stays as it is"),
        aliased(
            f"{_INPUT}.turn_detection.type",
            "silence ends an item, with `server_vad`, with `semantic_vad` and without either; with "
            "null for `turn_detection` only a commit does",
        ),
        accepted(f"{_INPUT}.turn_detection.threshold", "of our own detector; usually 0.3"),
        accepted(f"{_INPUT}.turn_detection.silence_duration_ms", "at least 200; usually 500"),
        ignored(
            f"{_INPUT}.turn_detection.prefix_padding_ms",
            "an item begins 300 ms before its speech, so that its first word is whole",
        ),
        ignored(f"{_INPUT}.turn_detection.eagerness", "silence ends an item, as above"),
        ignored(f"{_INPUT}.turn_detection.create_response", _REPLIES),
        ignored(f"{_INPUT}.turn_detection.interrupt_response", _REPLIES),
        ignored(f"{_INPUT}.turn_detection.idle_timeout_ms", _REPLIES),
        ignored(
            f"{_INPUT}.noise_reduction.type", "audio is heard as it is, and the answer says null"
        ),
        ignored(f"{_INPUT}.noise_reduction.strength", "likewise"),
        accepted("include", "`item.input_audio_transcription.logprobs`, a word an entry"),
    ),
    answers=(
        *sent(
            "session.created",
            "session.updated",
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "input_audio_buffer.cleared",
            "error",
        ),
        computed(
            "conversation.item.input_audio_transcription.delta",
            "words that stay, also while somebody still speaks",
        ),
        *sent(
            "conversation.item.input_audio_transcription.completed",
            "conversation.item.input_audio_transcription.failed",
        ),
        left_out("conversation.item.input_audio_transcription.segment", _LIVE),
        left_out("conversation.item.created", "an item has nothing but its transcription"),
    ),
    says="The configuration is in `session.update`, before the first audio; later only the "
    "language may change. `input_audio_buffer.append` (at most 256 KiB a message), `.commit` and "
    "`.clear` are as documented. "
    "With the header `OpenAI-Beta: realtime=v1`, or in `transcription_session.update`, it has the "
    "names of the beta (`input_audio_format`, `input_audio_transcription`, `turn_detection`, "
    "`input_audio_noise_reduction`).",
)

MODEL_LIST = Operation(
    "GET /v1/models, GET /v1/models/{model}",
    answers=(
        *sent("id", "object"),
        computed("created", "0: the catalogue has no dates"),
        computed("owned_by", "`longhand`"),
        left_out("shutdown_date", "nothing is shut down"),
    ),
    says="The models that are served, and the names in `LONGHAND_MODEL_ALIASES`; any name that a "
    "transcription may have can be asked for.",
)
