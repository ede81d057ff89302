"""``GET /jobs/{id}``: how many a second one API process answers, and what each costs it.

The clients are threads of another process, each on a connection that it keeps. ``CPU ms`` is what
the API process itself spends on a request: its inverse is what a core answers, whatever else runs
on the machine meanwhile.
"""

import http.client
import multiprocessing
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.apis import Api, Side, apis, sides, submit

CLIENTS = 4
ROUNDS = 5
ROUND_S = 3.0
WARM_UP_S = 1.0

_SUCCEED = """
    WITH made AS (
        INSERT INTO transcripts (id, tenant, header)
        VALUES (%(id)s, 'default',
                '{"language": "en", "duration_s": 2.0, "speech_s": 2.0, "skipped_s": 0.0}')
    ), said AS (
        INSERT INTO transcript_segments (transcript_id, idx, document)
        SELECT %(id)s, n, jsonb_build_object(
            'id', n, 'start', n, 'end', n + 0.5, 'text', 'hello', 'language', 'en',
            'words', '[{"text": "hello", "start": 0.0, "end": 0.5}]'::jsonb
        ) FROM generate_series(0, 9) AS n
    )
    UPDATE jobs SET state = 'succeeded', transcript_id = %(id)s, finished_at = now(),
                    started_at = now()
    WHERE id = %(id)s
"""


@dataclass(frozen=True, slots=True)
class Speed:
    """What one round came to."""

    per_s: float
    cpu_ms: float
    """Of the API process, for each request."""


def run(before: Path | None) -> None:
    """Print requests a second and CPU for each, of a queued job and of one that has succeeded."""
    with sides(before) as compared, apis(compared) as running:
        print(f"{'GET /jobs/{id}':<28}{'requests/s':>12}{'CPU ms':>9}{'per core':>10}")
        jobs = [_jobs(side, api) for side, api in zip(compared, running, strict=True)]
        for kind in ("queued", "succeeded"):
            rounds: dict[str, list[Speed]] = {side.name: [] for side in compared}
            for _ in range(ROUNDS):
                for side, api, made in zip(compared, running, jobs, strict=True):
                    rounds[side.name].append(_measure(api, f"/jobs/{made[kind]}"))
            middles = {name: _middle(speeds) for name, speeds in rounds.items()}
            for name, speed in middles.items():
                print(
                    f"{f'{kind}, {name}':<28}{speed.per_s:>12.0f}{speed.cpu_ms:>9.2f}"
                    f"{1000 / speed.cpu_ms:>10.0f}"
                )
            if before is not None:
                ratio = middles["before"].cpu_ms / middles["now"].cpu_ms
                print(f"{'':<4}a core answers {ratio:.1f} times as many", flush=True)


def _jobs(side: Side, api: Api) -> dict[str, str]:
    queued, succeeded = submit(api, 2)
    with psycopg.connect(side.conninfo) as connection:
        connection.execute(_SUCCEED, {"id": succeeded})
    return {"queued": queued, "succeeded": succeeded}


def _measure(api: Api, path: str) -> Speed:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        pool.apply(_ask, (api.port, path, WARM_UP_S))
        used_s, began = api.cpu_s(), time.monotonic()
        n_answers = pool.apply(_ask, (api.port, path, ROUND_S))
        took_s = time.monotonic() - began
        return Speed(n_answers / took_s, 1000 * (api.cpu_s() - used_s) / n_answers)


def _ask(port: int, path: str, for_s: float) -> int:
    """Ask from ``CLIENTS`` connections for a while; return how many answers came."""
    until = time.monotonic() + for_s

    def ask(_: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        n_answers = 0
        while time.monotonic() < until:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"bench: {answer.status} {path}")
            n_answers += 1
        connection.close()
        return n_answers

    with ThreadPoolExecutor(CLIENTS) as threads:
        return sum(threads.map(ask, range(CLIENTS)))


def _middle(speeds: list[Speed]) -> Speed:
    return Speed(
        statistics.median(speed.per_s for speed in speeds),
        statistics.median(speed.cpu_ms for speed in speeds),
    )
