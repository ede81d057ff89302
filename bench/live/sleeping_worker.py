"""A model worker whose engine sleeps for each call, and hears a word in every 300 ms of any audio.

``python -m bench.live.sleeping_worker CALL_MS MAX_BATCH model --model oracle``; the device takes no
processor time, and what is measured is the platform's.
"""

import sys
import time
from collections.abc import Sequence

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis
from worker.__main__ import main
from worker.engines.oracle import OracleEngine
from worker.engines.protocol import DecodeOptions, Prepared

WORD_SAMPLES = SAMPLE_RATE * 300 // 1000


def sleep_instead(call_s: float, max_batch: int) -> None:
    """Have the oracle sleep."""

    def prepare(self: OracleEngine, samples: Samples, _: DecodeOptions) -> Prepared[int]:
        return Prepared(len(samples), self.window_samples)

    def infer(_: OracleEngine, batch: Sequence[Prepared[int]]) -> list[Hypothesis]:
        time.sleep(call_s)
        return [_words(item.input) for item in batch]

    OracleEngine.max_batch = max_batch
    for replacement in (prepare, infer):
        setattr(OracleEngine, replacement.__name__, replacement)


def _words(n_samples: int) -> Hypothesis:
    starts = range(0, n_samples - WORD_SAMPLES // 2, WORD_SAMPLES)
    return Hypothesis(
        tuple(
            WordHypothesis(f" w{number}", start, min(start + WORD_SAMPLES, n_samples), 1.0)
            for number, start in enumerate(starts)
        ),
        "en",
    )


if __name__ == "__main__":
    sleep_instead(float(sys.argv[1]) / 1000, int(sys.argv[2]))
    del sys.argv[1:3]
    main()
