"""Long pauses are not heard, and words keep their times: a Whisper's job, on real servers.

The oracle stands in for the model, so that every word and its time are known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from harness.jobs.job_store import column, step_ids
from harness.jobs.preparations import (
    plan_of,
    prepare_again,
    replace_options,
    run_all,
    start_preparing,
    submit,
)
from harness.jobs.step_runner import run_claimed
from shared.infra.settings import Settings
from shared.models.options import ResolvedOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.chunk import chunk_from_json
from shared.speech.chunks.hypothesis import Hypothesis
from shared.speech.transcript.manifest import Manifest
from shared.speech.transcript.transcript import Transcript, Word
from shared.store.jobs.read import get_job, get_manifest
from worker.batching.batcher import Batcher
from worker.engines.oracle import OracleEngine, encode, word_text
from worker.engines.protocol import DecodeOptions, Prepared
from worker.process.runtime import Runtime, make_runtime

WHISPER = ResolvedOptions(model="whisper-base", language="en", vad="energy")
WINDOW_S = 30
SENTENCE = 5
"""Words said without a pause: 2.5 s."""
PAUSES_S = (2, 7, 4, 6, 3, 8)


class Oracle(OracleEngine):
    """Notes how long its items are, and hears them well, or as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.items_s: list[float] = []

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[Any] | Hypothesis:
        self.items_s.append(len(samples) / SAMPLE_RATE)
        return super().prepare(samples, options)

    def infer(self, batch: Sequence[Prepared[Any]]) -> list[Any]:
        lengths_s = [len(item.input.samples) / SAMPLE_RATE for item in batch]
        return [*map(self.hear, lengths_s, super().infer(batch))]

    def hear(self, item_s: float, heard: Hypothesis) -> Hypothesis:
        return heard


@pytest.fixture
def running(settings: Settings) -> Iterator[Runtime]:
    made = make_runtime(settings, "test")
    yield made
    made.close()


def with_engine(running: Runtime, engine: OracleEngine) -> Runtime:
    return replace(running, batcher=Batcher(engine))


def talk(pauses_s: Sequence[float], first_word: int = 0) -> tuple[Samples, list[tuple[str, float]]]:
    """Return sentences with pauses between them, and each word with its start in seconds."""
    parts, words, n_samples = [], [], 0
    for number, pause_s in enumerate((0, *pauses_s)):
        at = first_word + number * SENTENCE
        samples, encoded = encode(range(at, at + SENTENCE), gap_s=0.26)
        pause = np.zeros(round(pause_s * SAMPLE_RATE), np.float32)
        n_samples += len(pause)
        words += [(word_text(w.number), (n_samples + w.start) / SAMPLE_RATE) for w in encoded]
        parts += [pause, samples]
        n_samples += len(samples)
    return np.concatenate(parts), words


def words_of(transcript: Transcript, channel: int | None = None) -> list[Word]:
    return [word for s in transcript.segments if s.channel == channel for word in s.words]


def assert_true(found: Sequence[Word], said: Sequence[tuple[str, float]]) -> None:
    assert [word.text for word in found] == [text for text, _ in said]
    for word, (_, start_s) in zip(found, said, strict=True):
        assert word.start == pytest.approx(start_s, abs=0.01)
        assert word.end == pytest.approx(start_s + 0.24, abs=0.01)


def test_words_after_long_pauses_are_at_their_times(running: Runtime) -> None:
    sound, said = talk(PAUSES_S)
    engine = Oracle()
    runtime = with_engine(running, engine)
    job_id = submit(runtime, WHISPER, sound)

    transcript = run_all(runtime, job_id)

    assert_true(words_of(transcript), said)
    assert len(sound) > WINDOW_S * SAMPLE_RATE
    (item_s,) = engine.items_s
    assert item_s <= WINDOW_S
    assert transcript.speech_s == pytest.approx(item_s, abs=0.01)
    assert transcript.speech_s + transcript.skipped_s == pytest.approx(transcript.duration_s)


def test_a_longer_talk_takes_few_windows_and_loses_no_word(running: Runtime) -> None:
    sound, said = talk(PAUSES_S * 6)
    engine = Oracle()
    runtime = with_engine(running, engine)

    transcript = run_all(runtime, submit(runtime, WHISPER, sound))

    assert_true(words_of(transcript), said)
    assert max(engine.items_s) <= WINDOW_S
    assert len(engine.items_s) <= 6


def test_the_manifest_says_what_was_heard(running: Runtime) -> None:
    sound, _ = talk(PAUSES_S)
    runtime = with_engine(running, Oracle())
    job_id = submit(runtime, WHISPER, sound)

    transcript = run_all(runtime, job_id)

    manifest = Manifest.model_validate_json(get_manifest(runtime.database, "default", job_id))
    (chunk,) = manifest.chunks
    assert len(chunk.parts) == len(PAUSES_S) + 1
    n_heard = sum(end - start for start, end in chunk.parts)
    assert n_heard / SAMPLE_RATE == pytest.approx(transcript.speech_s, abs=0.001)
    (step,) = step_ids(runtime.database, job_id, "transcribe")
    timings: Any = column(runtime.database, step, "timings")
    assert timings["audio_s"] == n_heard / SAMPLE_RATE


def test_what_is_left_out_around_a_pause_is_heard_again_at_its_time(running: Runtime) -> None:
    class CarelessOracle(Oracle):
        def hear(self, item_s: float, heard: Hypothesis) -> Hypothesis:
            # Leaves out two sentences of the whole, with the pause of 6 s between them.
            gone = range(3 * SENTENCE, 5 * SENTENCE)
            whole = item_s > WINDOW_S / 2
            kept = [w for w in heard.words if not whole or int(w.text[1:]) not in gone]
            return replace(heard, words=tuple(kept))

    sound, said = talk(PAUSES_S)
    engine = CarelessOracle()
    runtime = with_engine(running, engine)
    job_id = submit(runtime, WHISPER, sound)

    transcript = run_all(runtime, job_id)

    assert_true(words_of(transcript), said)
    assert len(engine.items_s) == 2
    assert engine.items_s[1] < 2 * 2.5 + 4  # the pause is left out of the slice, too
    assert get_job(runtime.database, "default", job_id).metrics["unheard_s"] == 0


def test_channels_of_a_call_are_packed_apart(running: Runtime) -> None:
    left, said_left = talk((8, 8, 8))
    right, said_right = talk((7, 9, 6), first_word=500)
    engine = Oracle()
    runtime = with_engine(running, engine)
    job_id = submit(runtime, replace_options(WHISPER, multichannel=True), left, right)

    transcript = run_all(runtime, job_id)

    assert_true(words_of(transcript, 0), said_left)
    assert_true(words_of(transcript, 1), said_right)
    assert len(engine.items_s) == 2


def test_a_repeated_prepare_plans_the_same_parts(running: Runtime) -> None:
    sound, _ = talk(PAUSES_S * 4)
    job_id = submit(running, WHISPER, sound)
    start_preparing(running, job_id)
    plan = plan_of(running.database, job_id)

    prepare_again(running, job_id)

    assert plan_of(running.database, job_id) == plan
    chunks = [chunk_from_json(idx, planned) for idx, planned in plan]
    assert len(chunks[0].parts) > 1
    assert all(left.core_end < right.core_start for left, right in pairwise(chunks))


def test_a_language_is_detected_without_the_pauses(running: Runtime) -> None:
    sound, said = talk(PAUSES_S * 3)
    engine = Oracle()
    runtime = with_engine(running, engine)
    job_id = submit(runtime, replace_options(WHISPER, language=None), sound)
    start_preparing(runtime, job_id)

    detect(runtime, job_id)

    assert 2 <= len(engine.items_s) <= 3
    assert max(engine.items_s) <= WINDOW_S
    assert_true(words_of(run_all(runtime, job_id)), said)


def detect(runtime: Runtime, job_id: UUID) -> None:
    (step,) = step_ids(runtime.database, job_id, "detect")
    run_claimed(runtime, step)


@pytest.mark.parametrize(
    "changes",
    [{"vad": "off"}, {"model": "oracle"}, {"language": None, "multilingual": True}],
    ids=["no detector", "no fixed window", "several languages"],
)
def test_pauses_are_heard_in_jobs_that_do_not_shorten_them(
    running: Runtime, changes: dict[str, Any]
) -> None:
    sound, _ = talk((2, 2.5))
    job_id = submit(running, replace_options(WHISPER, **changes), sound)

    start_preparing(running, job_id)

    ((_, planned),) = plan_of(running.database, job_id)
    assert "parts" not in planned
