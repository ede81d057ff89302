"""What Deepgram's parameters mean here, and where the members of its answers come from."""

from collections.abc import Iterator, Sequence

from api.dialects.parameters import (
    Member,
    Operation,
    Parameter,
    accepted,
    aliased,
    computed,
    ignored,
    left_out,
    refused,
    sent,
)

MODELS: Sequence[str] = (
    *("nova*", "base*", "enhanced*", "whisper*", "flux*", "general*"),
    *("meeting", "phonecall", "finance", "conversationalai", "voicemail", "video"),
)

_SPEAKERS = "one model tells speakers apart here, and it does not say how sure it is"
_SPEAKER = "from 0, with `diarize`; null where nobody is known"
_MEANING = "what is meant is not analysed here, only what is said"
_FALSE = "false"


def _refused(says: str, *names: str) -> Iterator[Parameter]:
    return (refused(name, says, _FALSE) for name in names)


def _left_out(says: str, prefix: str, *names: str) -> Iterator[Member]:
    return (left_out(prefix + name, says) for name in names)


_ALTERNATIVE = "results.channels[].alternatives[]."
_WORD = "words[]."

LISTEN = Operation(
    "POST /v1/listen",
    takes=(
        aliased(
            "model",
            "a model of ours by its id; `nova*`, `whisper*` and the other names of Deepgram's are "
            "the model that a job gets which names none; `LONGHAND_MODEL_ALIASES` may say "
            "otherwise; a name that nobody knows is an error",
        ),
        aliased(
            "language",
            "of the speech; `multi`: each part has its own; omitted, the model detects it, where "
            "Deepgram takes English",
        ),
        accepted("detect_language", "`true` or `false`, not a list"),
        refused("language_hint", "name the language, or have it detected"),
        accepted("multichannel", "each channel is transcribed apart"),
        accepted(
            "punctuate", "without it, as with none of the three below, words are in lower case"
        ),
        accepted("smart_format", "does what `punctuate` does: models write numbers as they do"),
        accepted("paragraphs", "implies `punctuate`"),
        accepted("utterances", "words of one speaker without a longer pause than `utt_split`"),
        accepted("utt_split", "seconds; 0.8 if omitted"),
        aliased("keyterm", "words to expect, an error if the model takes none"),
        aliased("keywords", "as `keyterm`; a weight is dropped, one below zero is refused"),
        accepted("tag", "kept as `tags` in the job's metadata"),
        accepted(
            "callback",
            "`https`, its host must be public; what is sent there counts as a "
            "[webhook's](webhooks.md) delivery, with its attempts",
        ),
        accepted("callback_method", "`POST`, or `PUT`"),
        refused("extra", "tag the request, or use metadata of `POST /jobs`"),
        refused("encoding", "send a file whose header says it, such as WAV"),
        accepted("diarize", "an error where no worker tells speakers apart"),
        *_refused(_SPEAKERS, "diarize_model"),
        *_refused(
            _MEANING,
            *("sentiment", "summarize", "topics", "custom_topic", "custom_topic_mode"),
            *("intents", "custom_intent", "custom_intent_mode", "detect_entities"),
        ),
        *_refused("the model writes it as it does", "dictation", "filler_words", "measurements"),
        accepted("numerals", "English number words become digits"),
        accepted("replace", "`FIND:REPLACE`; case does not count; without `:` the words go"),
        *_refused("name the words with `mask` of `POST /jobs`", "profanity_filter", "redact"),
        *_refused("search the transcript", "search"),
        refused("version", "models have one version here", "latest"),
        ignored("mip_opt_out", "nothing is ever learned from what is sent"),
    ),
    answers=(
        computed("metadata.request_id", "the job's id"),
        computed("metadata.transaction_key", "`deprecated`, as Deepgram sends"),
        *sent("metadata.sha256", "metadata.created", "metadata.duration", "metadata.channels"),
        computed("metadata.models", "the id of the model"),
        computed("metadata.model_info", "its name and engine, under its id"),
        computed("metadata.tags", "if the request has any"),
        *sent(_ALTERNATIVE + "transcript"),
        computed(_ALTERNATIVE + "confidence", "the mean of its words'; null where they have none"),
        computed(
            f"{_ALTERNATIVE}{_WORD}word", "in lower case, without the marks before and after it"
        ),
        *sent(f"{_ALTERNATIVE}{_WORD}start", f"{_ALTERNATIVE}{_WORD}end"),
        computed(f"{_ALTERNATIVE}{_WORD}confidence", "null where the engine gives none"),
        computed(f"{_ALTERNATIVE}{_WORD}punctuated_word", "with `punctuate` and what implies it"),
        computed(f"{_ALTERNATIVE}{_WORD}speaker", _SPEAKER),
        *(
            left_out(f"{_ALTERNATIVE}{_WORD}{name}", says)
            for name, says in (
                ("speaker_confidence", _SPEAKERS),
                ("language", "segments have one, words have not"),
            )
        ),
        *sent(
            f"{_ALTERNATIVE}paragraphs.transcript",
            *(
                f"{_ALTERNATIVE}paragraphs.paragraphs[].{name}"
                for name in (
                    *("start", "end", "num_words"),
                    *("sentences[].text", "sentences[].start", "sentences[].end"),
                )
            ),
        ),
        computed(f"{_ALTERNATIVE}paragraphs.paragraphs[].speaker", _SPEAKER),
        computed("results.channels[].detected_language", "of the whole, with `detect_language`"),
        computed("results.utterances[].id", "the same whenever it is asked for"),
        *sent(
            *(
                f"results.utterances[].{name}"
                for name in (
                    *("start", "end", "confidence", "channel", "transcript"),
                    *("words[].word", "words[].start", "words[].end"),
                    *("words[].confidence", "words[].punctuated_word"),
                )
            )
        ),
        computed("results.utterances[].speaker", _SPEAKER),
        computed("results.utterances[].words[].speaker", _SPEAKER),
        left_out("results.utterances[].words[].speaker_confidence", _SPEAKERS),
        *_left_out(
            "segments have a language, words have not",
            "results.utterances[].",
            *("languages", "words[].language"),
        ),
        *_left_out("hints are refused", _ALTERNATIVE, "languages", "languages_hinted"),
        *_left_out(
            "search is refused",
            "results.channels[].search[].",
            *("query", "hits[].confidence", "hits[].start", "hits[].end", "hits[].snippet"),
        ),
        *_left_out(_SPEAKERS, "metadata.diarize_info.", *("arch", "model_uuid")),
        *(
            left_out(f"metadata.{kind}_info.{name}", _MEANING)
            for kind in ("intents", "sentiment", "summary", "topics")
            for name in ("model_uuid", "input_tokens", "output_tokens")
        ),
        *_left_out(
            _MEANING,
            _ALTERNATIVE,
            *(
                f"entities[].{name}"
                for name in ("label", "value", "raw_value", "confidence", "start_word", "end_word")
            ),
            *(f"summaries[].{name}" for name in ("summary", "start_word", "end_word")),
            *(f"topics[].{name}" for name in ("text", "topics", "start_word", "end_word")),
        ),
        *_left_out(
            _MEANING,
            "results.",
            *("summary.result", "summary.short"),
            *(
                f"{kind}.segments[].{name}"
                for kind in ("intents", "sentiments", "topics")
                for name in ("text", "start_word", "end_word")
            ),
            *(f"intents.segments[].intents[].{name}" for name in ("intent", "confidence_score")),
            *(f"topics.segments[].topics[].{name}" for name in ("topic", "confidence_score")),
            *(f"sentiments.segments[].{name}" for name in ("sentiment", "sentiment_score")),
            *(f"sentiments.average.{name}" for name in ("sentiment", "sentiment_score")),
        ),
    ),
    says='The body is the file, of any type, or JSON: `{"url": "https://..."}`.',
)
