"""The dialect, made of its parts."""

from api.dialects.dialect import Dialect
from api.dialects.openai import realtime, routes, tables
from api.dialects.openai.errors import answer_error

OPENAI = Dialect(
    name="OpenAI",
    prefixes=("/v1",),
    routes=routes.router,
    sockets=realtime.router,
    answer_error=answer_error,
    models=tables.MODELS,
    operations=(
        tables.TRANSCRIPTION,
        tables.VERBOSE,
        tables.DIARIZED,
        tables.STREAM,
        tables.TRANSLATION,
        tables.VERBOSE_TRANSLATION,
        tables.REALTIME,
        tables.MODEL_LIST,
    ),
    says="""\
Set `base_url` (or `OPENAI_BASE_URL`) to `http://HOST:PORT/v1`, and `api_key` (`OPENAI_API_KEY`) to
a key of Longhand's.

Realtime sessions are opened at `base_url`, too, by `ws` where that says `http`. Set
`websocket_base_url` to `ws://HOST:PORT/v1` where sockets have an address of their own, and for an
older release of OpenAI's SDK, which takes `wss` in any case.

A request is answered when its job has ended, however long that takes, so give the client a
`timeout` that its longest file fits in. If the client leaves, the job goes on for a minute: a
retry, which SDKs make by themselves, finds it by the file's bytes and options, and nothing is
transcribed twice.

Errors have OpenAI's form, `{"error": {"message", "type", "param", "code"}}`, and its statuses: 400
for a parameter, 401 `invalid_api_key`, 404 `model_not_found`, 429 and 503 with `Retry-After`.
`x-should-retry` tells SDKs not to repeat what fails again.
""",
)
