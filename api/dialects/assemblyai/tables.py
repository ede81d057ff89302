"""What AssemblyAI's parameters mean here, and where the members of its answers come from."""

from collections.abc import Iterator, Sequence

from api.dialects.parameters import (
    Member,
    Operation,
    Parameter,
    Verdict,
    accepted,
    aliased,
    computed,
    ignored,
    left_out,
    refused,
    sent,
)

MODELS: Sequence[str] = (
    *("best", "nano", "slam-1", "universal*", "conformer*"),
    *("u3-*", "whisper-rt"),
)

_SPEAKERS = "speakers are not told apart here"
_MEANING = "what is meant is not analysed here, only what is said"
_AS_HEARD = "the text is left as it was heard"
_OF_ANSWERS = "it is a member of answers"
_MODEL_WRITES = "the model writes it as it does"


def _refused(says: str, *names: str) -> Iterator[Parameter]:
    return (refused(name, says, "false") for name in names)


_TAKES: Sequence[Parameter] = (
    accepted("audio_url", "an `upload_url` of the same tenant, or a URL that a worker fetches"),
    aliased(
        "speech_model",
        "a model of ours by its id; AssemblyAI's names are the model that a job gets which names "
        "none; `LONGHAND_MODEL_ALIASES` may say otherwise; a name that nobody knows is an error",
    ),
    aliased("speech_models", "the first counts, as `speech_model`; the others must be known names"),
    aliased(
        "language_code",
        "of the speech, `en_us` as `en`; omitted, the model detects it, where AssemblyAI takes "
        "English",
    ),
    aliased("language_codes", "one is the language; with several, each part's is detected"),
    accepted("language_detection", "it is done in any case where no language is named"),
    refused("language_confidence_threshold", "a detected language is taken as it is", "0", "0.0"),
    refused("language_detection_options", "name the language, or have it detected"),
    refused("language_detection_results", _OF_ANSWERS),
    accepted("multichannel", "each channel is transcribed apart"),
    aliased("dual_channel", "`multichannel`"),
    refused("punctuate", _MODEL_WRITES, "true"),
    refused("format_text", _MODEL_WRITES, "true"),
    *_refused(_MODEL_WRITES, "disfluencies"),
    aliased("keyterms_prompt", "words to expect, an error if the model takes none"),
    refused("keyterms_prompt_options", "words to expect have no strength"),
    aliased("word_boost", "as `keyterms_prompt`"),
    refused("boost_param", "words to expect have no weight", "default"),
    accepted(
        "prompt",
        "of a longer one the last 1,000 characters count; an error if the model takes none",
    ),
    refused(
        "temperature",
        "decoding begins at 0 here, and is raised where the result fails checks",
        *("0", "0.0"),
    ),
    refused("audio_start_from", "the whole file is transcribed", "0"),
    refused("audio_end_at", "the whole file is transcribed"),
    refused("speech_threshold", "a file with little speech is transcribed, too", "0", "0.0"),
    accepted(
        "webhook_url",
        "`https`, its host must be public; what is sent there counts as a "
        "[webhook's](webhooks.md) delivery, with its attempts",
    ),
    accepted("webhook_auth_header_name", "with its value; not one that HTTP itself uses"),
    accepted("webhook_auth_header_value", "up to 1,024 characters of ASCII; it is never shown"),
    *_refused(_AS_HEARD, "filter_profanity", "redact_pii", "redact_pii_audio"),
    *_refused(_AS_HEARD, "redact_pii_return_unredacted"),
    *(
        refused(name, _AS_HEARD)
        for name in (
            *("redact_pii_audio_quality", "redact_pii_audio_options", "redact_pii_policies"),
            *("redact_pii_sub", "custom_spelling", "remove_audio_tags"),
        )
    ),
    accepted("speaker_labels", "an error where no worker tells speakers apart"),
    accepted("speakers_expected", "1 to 50, with `speaker_labels`"),
    aliased(
        "speaker_options",
        "`min_speakers_expected` and `max_speakers_expected`, with `speaker_labels`",
    ),
    *_refused(
        _MEANING,
        *("content_safety", "iab_categories", "sentiment_analysis", "auto_chapters"),
        *("entity_detection", "summarization", "auto_highlights"),
    ),
    *(
        refused(name, _MEANING)
        for name in (
            *("content_safety_confidence", "summary_model", "summary_type"),
            *("speech_understanding",),
        )
    ),
    refused("domain", "name a model that knows the subject"),
    ignored("audio_channels", _OF_ANSWERS),
    ignored("language_confidence", _OF_ANSWERS),
)

_NO_CONFIDENCE = "0 where the engine gives none"


def _words(prefix: str) -> Iterator[Member]:
    yield from sent(f"{prefix}text", f"{prefix}start", f"{prefix}end")
    yield computed(f"{prefix}confidence", _NO_CONFIDENCE)
    yield computed(
        f"{prefix}speaker",
        "A, B and so on with `speaker_labels`; its channel's number with `multichannel`; else null",
    )
    yield computed(f"{prefix}channel", "from 1, with `multichannel`; else null")


_REPEATED = (
    *("speech_model", "speech_models", "language_codes", "language_detection", "dual_channel"),
    *("keyterms_prompt", "word_boost", "prompt", "speaker_options"),
)

UPLOAD = Operation(
    "POST /v2/upload",
    answers=(computed("upload_url", "no address: only `audio_url` takes it, of the same tenant"),),
    says="The body is the file. It is kept for a day, and as long as a transcript needs it.",
)

TRANSCRIPT = Operation(
    "POST /v2/transcript, GET and DELETE /v2/transcript/{id}",
    takes=_TAKES,
    answers=(
        computed("id", "the job's"),
        computed("status", "`queued`, `processing`, `completed`, or `error`"),
        computed("audio_url", "without what may be a secret; empty if the native API got the file"),
        *sent("error", "text"),
        computed("speech_model_used", "the id of the model"),
        computed("language_code", "an ISO 639 code, given or detected"),
        computed("language_confidence", "null where the language was given"),
        *sent("multichannel", "speaker_labels", "speakers_expected"),
        computed("audio_channels", "with `multichannel`; else null"),
        computed("audio_duration", "seconds, rounded"),
        computed("confidence", "the mean of the words'; null where they have none"),
        *sent("webhook_url", "webhook_auth_header_name", "webhook_auth"),
        left_out("webhook_auth_header_value", "a secret is not shown"),
        computed("webhook_status_code", "of the latest attempt; null if it had no answer"),
        *_words("words[]."),
        *_words("utterances[]."),
        *_words("utterances[].words[]."),
        left_out("utterances[].translated_texts", "nothing is translated beside the text"),
        *(left_out(name, "what was asked is not repeated") for name in _REPEATED),
        *(
            left_out(each.name, "what asks for it is refused")
            for each in _TAKES
            if each.verdict is Verdict.REFUSED
        ),
        *(
            left_out(name, _AS_HEARD)
            for name in ("unredacted_text", "unredacted_words", "unredacted_utterances")
        ),
        *(
            left_out(name, _MEANING)
            for name in (
                *("summary", "auto_highlights_result", "content_safety_labels", "entities"),
                *("iab_categories_result", "chapters", "sentiment_analysis_results"),
            )
        ),
        left_out("translated_texts", "nothing is translated beside the text"),
        left_out("metadata", "warnings are in the native API's transcript"),
    ),
    says="`utterances` are paragraphs, with `speaker_labels` or `multichannel`; else null. DELETE "
    "removes the job, and answers with the text null.",
)

LIST = Operation(
    "GET /v2/transcript",
    takes=(
        accepted("limit", "1 to 200; 10 if omitted"),
        accepted("status"),
        accepted("created_on", "a day of UTC"),
        accepted("before_id", "those that are older"),
        accepted("after_id", "those that are newer; not with `before_id`"),
        refused("throttled_only", "no transcript is throttled", "false"),
    ),
    answers=(
        *sent("page_details.limit", "page_details.result_count"),
        computed("page_details.current_url", "begins with `LONGHAND_PUBLIC_URL`, as all URLs here"),
        computed("page_details.prev_url", "the page of older ones; null if there are none"),
        computed("page_details.next_url", "the page of newer ones; null if there are none"),
        *(
            sent(
                *(
                    f"transcripts[].{name}"
                    for name in (
                        *("id", "resource_url", "status", "created", "completed"),
                        *("audio_url", "error"),
                    )
                )
            )
        ),
    ),
)

SUBTITLES = Operation(
    "GET /v2/transcript/{id}/srt and /vtt",
    takes=(
        accepted("chars_per_caption", "10 to 200, in one line; omitted: two lines, as usual here"),
    ),
)


def _parts(name: str) -> tuple[Member, ...]:
    return (
        *_words(f"{name}[]."),
        *_words(f"{name}[].words[]."),
        computed("confidence", f"the mean of the words'; {_NO_CONFIDENCE}"),
        computed("audio_duration", "seconds, rounded"),
        computed("speech_model_used", "the id of the model"),
    )


SENTENCES = Operation(
    "GET /v2/transcript/{id}/sentences",
    answers=_parts("sentences"),
    says="A sentence is a segment: one that is longer than 30 s is several.",
)

PARAGRAPHS = Operation("GET /v2/transcript/{id}/paragraphs", answers=_parts("paragraphs"))

WORD_SEARCH = Operation(
    "GET /v2/transcript/{id}/word-search",
    takes=(
        accepted("words", "up to 100, or phrases of up to 5 words each, with commas between them"),
    ),
    answers=(
        *sent("total_count", "matches[].text", "matches[].count", "matches[].timestamps"),
        computed("matches[].indexes", "of a phrase: of its first word"),
    ),
    says="Case, and punctuation around a word, do not count. What does not occur has no match.",
)
