"""What the parameters and messages of AssemblyAI's streaming API mean here."""

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

_STAYS = "what was told of a speaker never changes"
_FALSE = "false"
_SILENCE = "silence alone ends a turn"
_AS_IT_IS = "audio is heard as it is"
_LEFT_ALONE = "name the words with `mask` of `/ws/stt`"
_NO_WEBHOOK = "turns come over the WebSocket alone"
_NOT_SENT = "there are no such messages here"

_SESSION = (
    accepted(
        "max_turn_silence",
        "milliseconds of silence that end a turn, 200 to 60,000, of which less counts as 200; "
        "omitted: `min_turn_silence`, or else `LONGHAND_LIVE_MIN_SILENCE_MS`",
    ),
    aliased("min_turn_silence", "`max_turn_silence`, where that is omitted: nothing is guessed"),
    aliased(
        "min_end_of_turn_silence_when_confident", "`min_turn_silence`, of which it is the old name"
    ),
    ignored("end_of_turn_confidence_threshold", _SILENCE),
    accepted("vad_threshold", "of our own detector; usually 0.3"),
    accepted(
        "format_turns",
        "with `universal-streaming*`, or no model: a turn's end comes with bare words in lower "
        "case, and if true once more as the model writes it; with other models: once, as the model "
        "writes it, unless it is false",
    ),
    accepted(
        "prompt", "of a longer one the last 1,000 characters; an error if the model takes none"
    ),
    refused("agent_context", "give a `prompt`"),
    aliased("keyterms_prompt", "words to expect, an error if the model takes none"),
    aliased("language_codes", "one is the language; with several, each turn's is detected"),
    refused("filter_profanity", _LEFT_ALONE, _FALSE),
    ignored("interruption_delay", "text comes as soon as it can"),
    ignored(
        "turn_left_pad_ms", "a turn begins 300 ms before its speech, so its first word is whole"
    ),
    refused("session_heartbeat", _NOT_SENT, _FALSE),
    refused("acknowledge_silence", _NOT_SENT, _FALSE),
)

STREAM = Operation(
    "WS /v3/ws",
    takes=(
        *_SESSION,
        accepted(
            "sample_rate",
            "8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100 or 48000; needed with PCM",
        ),
        accepted(
            "encoding",
            "`pcm_s16le`, `pcm_mulaw`; `ogg_opus` and `aac`: WAV, Ogg, WebM, FLAC, MP3 or AAC "
            "(ADTS), which is found out; `opus` is an error: packets need a container",
        ),
        aliased("speech_model", "as in recordings"),
        aliased("language_code", "of the speech; omitted: `LONGHAND_LIVE_LANGUAGE`"),
        aliased("language", "as `language_code`"),
        accepted("language_detection", "each turn's language is detected, and told with its end"),
        accepted("inactivity_timeout", "5 to 3,600 s; omitted: `LONGHAND_LIVE_IDLE_S`"),
        accepted("include_partial_turns", "true if omitted"),
        ignored("continuous_partials", "partials come every 300 ms in any case"),
        ignored("mode", "text comes as soon as it stays as it is"),
        ignored("voice_focus", _AS_IT_IS),
        ignored("voice_focus_threshold", _AS_IT_IS),
        ignored("noise_suppression_model", _AS_IT_IS),
        ignored("noise_suppression_threshold", _AS_IT_IS),
        refused("domain", "name a model that knows the subject"),
        accepted(
            "speaker_labels",
            "turns' ends have speakers; while no worker tells them apart there is a `Warning`, and "
            "they are null",
        ),
        refused("speaker_labels_revision_interval_ms", _STAYS),
        accepted(
            "max_speakers", "1 to 20, with `speaker_labels`; more are the most similar of these"
        ),
        refused("redact_pii", _LEFT_ALONE, _FALSE),
        refused("redact_pii_policies", _LEFT_ALONE, "[]"),
        refused("redact_pii_sub", _LEFT_ALONE),
        refused("webhook_url", _NO_WEBHOOK),
        refused("webhook_auth_header_name", _NO_WEBHOOK),
        refused("webhook_auth_header_value", _NO_WEBHOOK),
        refused("llm_gateway", "no other model is asked"),
        refused("customer_support_audio_capture", "nothing is recorded", _FALSE),
        accepted("token", "one of `GET /v3/token`; a key is not taken in a query"),
    ),
    answers=(
        computed("Begin: id", "a new one"),
        computed("Begin: expires_at", "in a day, but nothing happens then"),
        computed("Begin: configuration.model", "the id of the model"),
        left_out("Begin: configuration.mode", "there are none"),
        left_out("Begin: configuration.api_version", "it has none"),
        computed("Turn: turn_order", "from 0; a turn without any word has none of its own"),
        *sent("Turn: turn_is_formatted"),
        computed("Turn: end_of_turn", "true after silence, `ForceEndpoint`, the end, or 30 s"),
        computed("Turn: end_of_turn_confidence", "1 with `end_of_turn`, else 0"),
        computed(
            "Turn: transcript",
            "until the end with `universal-streaming*`, or no model, the words that stay; with "
            "other models all words so far",
        ),
        computed("Turn: utterance", "the text at a turn's end, and in a pause that may be one"),
        *sent("Turn: words[].text", "Turn: words[].start", "Turn: words[].end"),
        computed("Turn: words[].confidence", "0 where the engine gives none"),
        *sent("Turn: words[].word_is_final"),
        computed(
            "Turn: words[].speaker",
            "A, B and so on at a turn's end, with `speaker_labels`; null where nobody can say",
        ),
        computed("Turn: language_code", "with `language_detection`, at a turn's end"),
        left_out("Turn: language_confidence", "a segment's language has none"),
        computed("Turn: speaker_label", "of who says most of a turn, as `words[].speaker`"),
        computed("SpeechStarted: timestamp", "not with `universal-streaming*` or no model"),
        *sent("Termination: audio_duration_seconds", "Termination: session_duration_seconds"),
        *sent("Error: error_code", "Error: error"),
        computed("Warning: warning_code", "3005"),
        computed(
            "Warning: warning",
            "a turn could not be heard, and has what its partials heard; or no worker tells "
            "speakers apart",
        ),
        left_out("Heartbeat", _NOT_SENT),
        left_out("Silence", _NOT_SENT),
        left_out("SpeakerRevision", _STAYS),
        left_out("LLMGatewayResponse", "no other model is asked"),
    ),
    says="`ForceEndpoint`, which is answered with a `Turn` also in silence, `KeepAlive`, "
    "`UpdateConfiguration` (the first rows, up to `acknowledge_silence`) and `Terminate` are as "
    "documented. An error is an `Error` and then that close code: 3006 for a parameter, a message "
    "or audio that cannot be followed, 3009 for too many sessions, 1013 if none can begin now, "
    "4031 for a client that sends nothing for too long, and 3005 for an error of ours. A server "
    "that stops closes with 1012. Without a valid key the handshake is answered with 401. Chunks "
    "may have any length, and come at any speed.",
)

UPDATE = Operation("`UpdateConfiguration`", takes=_SESSION)
"""Not in docs/dialects.md: its rows are the first of ``STREAM``."""

TOKEN = Operation(
    "GET /v3/token",
    takes=(
        accepted("expires_in_seconds", "1 to 600; the token lasts 60 s in any case"),
        refused("max_session_duration_seconds", "a session may last as long as it is used"),
    ),
    answers=(
        computed("token", "opens one WebSocket, once, and nothing else"),
        computed("expires_in_seconds", "60"),
    ),
    says="AssemblyAI's SDK asks for it with `https` alone.",
)
