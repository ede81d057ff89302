"""What the parameters and messages of Deepgram's live API mean here."""

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

_FALSE = "false"
_MASK = "name the words with `mask` of `/ws/stt`"
_ONE_CHANNEL = "a session has one channel: mix them, or open a session for each"
_MEANING = "what is meant is not analysed here, only what is said"
_ALTERNATIVE = "Results: channel.alternatives[]."

LIVE = Operation(
    "WS /v1/listen",
    takes=(
        aliased("model", "as in recordings"),
        aliased(
            "language",
            "of the speech; `multi`: each segment's is detected; omitted: "
            "`LONGHAND_LIVE_LANGUAGE`, where Deepgram takes English",
        ),
        refused("language_hint", "name the language, or have it detected"),
        accepted(
            "encoding",
            "`linear16` (16 bits), `mulaw`, `alaw`; `flac` and `ogg-opus`, as without it: WAV, "
            "Ogg, WebM, FLAC, MP3 or AAC (ADTS), which is found out; others are an error",
        ),
        accepted(
            "sample_rate",
            "8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100 or 48000; needed, and only "
            "read, with the first three encodings",
        ),
        refused("channels", _ONE_CHANNEL, "1"),
        refused("multichannel", _ONE_CHANNEL, _FALSE),
        accepted("punctuate", "without it and `smart_format` words are bare and in lower case"),
        accepted("smart_format", "does what `punctuate` does: models write numbers as they do"),
        accepted("interim_results"),
        aliased(
            "endpointing",
            "milliseconds of silence that end a segment, 200 to 60,000, of which less counts as "
            "200; omitted, or `true`: `LONGHAND_LIVE_MIN_SILENCE_MS`, where Deepgram takes 10; "
            "`false`: the same, and `speech_final` is false",
        ),
        accepted("utterance_end_ms", "1,000 to 60,000; without `interim_results`, too"),
        accepted("vad_events"),
        ignored("no_delay", "text comes as soon as it can"),
        ignored("filler_words", "the model writes them or not, as it does"),
        ignored("tag", "nothing is billed by it"),
        ignored("mip_opt_out", "nothing is ever learned from what is sent"),
        aliased("keyterm", "words to expect, an error if the model takes none"),
        aliased("keywords", "as `keyterm`; a weight is dropped, one below zero is refused"),
        accepted("numerals", "English number words become digits"),
        accepted("replace", "`FIND:REPLACE`; case does not count; without `:` the words go"),
        refused("profanity_filter", _MASK, _FALSE),
        refused("redact", _MASK, _FALSE),
        refused("dictation", "the model writes it as it does", _FALSE),
        accepted("diarize", "a final's words have speakers; null while no worker tells them apart"),
        aliased("diarize_model", "`diarize`; `latest` or `v1`, which are one here"),
        refused("detect_entities", _MEANING, _FALSE),
        refused("search", "search the text that comes"),
        refused("callback", "results come over the WebSocket alone"),
        refused("callback_method", "results come over the WebSocket alone"),
        refused("extra", "keep it in the client"),
        refused("version", "models have one version here", "latest"),
    ),
    answers=(
        computed("Results: start", "the end of the final before it; 0 at first"),
        computed(
            "Results: duration",
            "a final's reaches to its segment's end, an interim's to its last word",
        ),
        *sent("Results: is_final"),
        computed(
            "Results: speech_final",
            "true where a pause, `Finalize` or the end follows; false at 30 s without a pause",
        ),
        computed("Results: from_finalize", "each `Finalize` is answered, also without any speech"),
        computed("Results: channel_index", "`[0, 1]`"),
        *sent(f"{_ALTERNATIVE}transcript"),
        computed(f"{_ALTERNATIVE}confidence", "the mean of its words'; 0 where they have none"),
        computed(f"{_ALTERNATIVE}words[].word", "bare, in lower case"),
        *sent(f"{_ALTERNATIVE}words[].start", f"{_ALTERNATIVE}words[].end"),
        computed(f"{_ALTERNATIVE}words[].confidence", "0 where the engine gives none"),
        computed(f"{_ALTERNATIVE}words[].punctuated_word", "with `punctuate` or `smart_format`"),
        computed(
            f"{_ALTERNATIVE}words[].speaker",
            "of finals, from 0, with `diarize`; null where nobody can say; it never changes",
        ),
        left_out(f"{_ALTERNATIVE}words[].language", "a word has none"),
        computed(f"{_ALTERNATIVE}languages", "the one that was detected, with `language=multi`"),
        left_out(f"{_ALTERNATIVE}languages_hinted", "hints are refused"),
        computed("Results: metadata.request_id", "the same in all messages of a session"),
        computed("Results: metadata.model_info.name", "the id of the model"),
        computed("Results: metadata.model_info.version", "empty"),
        computed("Results: metadata.model_info.arch", "the model's engine"),
        computed("Results: metadata.model_uuid", "the same for the same model"),
        computed(
            "Results: metadata.diarize_info.model_uuid", "with `diarize`, while a worker does so"
        ),
        computed("Results: metadata.diarize_info.arch", "its engine, likewise"),
        left_out("Results: entities", _MEANING),
        computed("SpeechStarted: channel", "`[0]`"),
        *sent("SpeechStarted: timestamp"),
        computed("UtteranceEnd: channel", "`[0, 1]`"),
        *sent("UtteranceEnd: last_word_end"),
        computed("Metadata: transaction_key", "`deprecated`, as Deepgram sends"),
        *sent(
            *("Metadata: request_id", "Metadata: created", "Metadata: duration"),
            "Metadata: channels",
        ),
        computed("Metadata: sha256", "of the audio as it was sent"),
        computed("Error: variant", "`SchemaError`, `InferenceError` or `InternalError`"),
        *sent("Error: description"),
        computed("Error: message", "of a `SchemaError`: what the client sent"),
        left_out("Error: code", "deprecated"),
        *sent(
            *("ConfigureSuccess: request_id", "ConfigureFailure: request_id"),
            *("ConfigureFailure: code", "ConfigureFailure: description"),
        ),
        computed("ConfigureSuccess: keyterms", "those that were sent, if any were"),
    ),
    says="Text messages are `KeepAlive`, `Finalize`, `CloseStream` and `Configure`, as documented; "
    "an empty binary message is a `CloseStream`, too. `CloseStream` is answered with the last "
    "results, `Metadata` and close code 1000. A message that cannot be followed is answered with "
    "`Error` and changes nothing. Audio that cannot be decoded closes the connection with 1008, "
    "`DATA-0000`; a client that sends nothing at all for `LONGHAND_LIVE_IDLE_S` is told `Metadata` "
    "and closed with 1011, `NET-0001`, where Deepgram waits for 10 s; an error of ours closes with "
    "1011, and a server that stops with 1012. A handshake is refused with 400 for a parameter, "
    "401, 403, 429, or 503 when no session can begin now.",
)

CONFIGURE = Operation(
    "`Configure`",
    takes=(
        aliased("keyterms", "as `keyterm`; they take the place of those before"),
        accepted(
            "features",
            "`punctuate`, `smart_format` and `numerals`; others cannot change, which is an error",
        ),
    ),
)

GRANT = Operation(
    "POST /v1/auth/grant",
    takes=(refused("ttl_seconds", "a token lasts 60 s", "30", "30.0", "60", "60.0"),),
    answers=(
        computed("access_token", "opens one WebSocket, once, and nothing else"),
        computed("expires_in", "60"),
    ),
)
