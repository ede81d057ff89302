"""The dialect, made of its parts."""

from api.dialects.assemblyai import live, live_tables, routes, tables
from api.dialects.assemblyai.errors import answer_error
from api.dialects.dialect import Dialect

ASSEMBLYAI = Dialect(
    name="AssemblyAI",
    prefixes=("/v2", "/v3"),
    routes=routes.router,
    sockets=live.router,
    answer_error=answer_error,
    models=tables.MODELS,
    operations=(
        tables.UPLOAD,
        tables.TRANSCRIPT,
        tables.LIST,
        tables.SUBTITLES,
        tables.SENTENCES,
        tables.PARAGRAPHS,
        tables.WORD_SEARCH,
        live_tables.STREAM,
        live_tables.TOKEN,
    ),
    says="""\
Set `aai.settings.base_url` (or `ASSEMBLYAI_BASE_URL`) to `http://HOST:PORT`, and
`aai.settings.api_key` (`ASSEMBLYAI_API_KEY`) to a key of Longhand's, which is sent as it is in
`Authorization`. For live sessions give the client
`RealTimeTranscriberOptions(api_host="ws://HOST:PORT", api_key=KEY)`.

A transcript is a job, and its id is the job's: the list has jobs of the native API, too. A job that
has failed or was canceled is a transcript with the status `error`. A transcript whose time was up
is one with the text null; a deleted one is not there any more (404).

`webhook_url` gets `{"transcript_id", "status"}` when the job has ended, with the header that
`webhook_auth_header_name` and `_value` say. `GET /webhooks/deliveries` shows each attempt.

Errors are `{"error": "..."}`: 400 for a parameter and for a transcript that is not completed, 401,
403, 404, 429 and 503 with `Retry-After`. AssemblyAI's SDK tries nothing again.
""",
)
