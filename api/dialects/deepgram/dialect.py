"""The dialect, made of its parts."""

from api.dialects.deepgram import live, live_tables, routes, tables
from api.dialects.deepgram.errors import answer_error
from api.dialects.dialect import Dialect

DEEPGRAM = Dialect(
    name="Deepgram",
    prefixes=("/v1/listen", "/v1/auth/grant"),
    routes=routes.router,
    sockets=live.router,
    answer_error=answer_error,
    models=tables.MODELS,
    operations=(tables.LISTEN, live_tables.LIVE, live_tables.CONFIGURE, live_tables.GRANT),
    says="""\
Give the client an environment whose `base` is `http://HOST:PORT` and whose `production` is
`ws://HOST:PORT`, and a key of Longhand's as `api_key`: it sends `Authorization: Token KEY`. A
browser offers `["token", KEY]` as subprotocols of a WebSocket.

A request is answered when its job has ended. One that takes longer than 50 s is answered with 503
and `Retry-After`, since Deepgram's clients give up after 60 s and try again at a 503: the next try
finds the job, which goes on, by the file's bytes and options.

With a `callback` the answer is `{"request_id"}` at once, and what would have been the answer is
sent to that URL when the job has ended; in an error, too, `request_id` is the job's id. The header
`dg-token` is the id of the API key that the request came with, a login in the URL becomes an
`Authorization` header, and `GET /webhooks/deliveries` shows each attempt.

Errors have Deepgram's form, `{"err_code", "err_msg", "request_id"}`: 400 for a parameter or a file,
401 `INVALID_AUTH`, 403 `INSUFFICIENT_PERMISSIONS`, 429 and 503 with `Retry-After`.
""",
)
