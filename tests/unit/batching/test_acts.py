"""The three acts of an engine: which threads do them, and in which order."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from harness.engines.fake import Item
from harness.engines.gated import EN, GatedEngine, await_prepared, item, occupy
from harness.programs.workers import wait_until
from shared.infra.errors import ModelError
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from worker.batching.batcher import Batcher
from worker.engines.protocol import DecodeOptions, Prepared


class PickyEngine(GatedEngine):
    """Wants to infer items of 10 samples and more once more; notes which thread does which act."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[int] = []
        self.helpers: set[int] = set()
        self.seen: set[int] = set()

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[Item] | Hypothesis:
        self.helpers.add(threading.get_ident())
        if len(samples) == 7:
            raise ModelError("seven")
        if len(samples) == 8:
            return Hypothesis((), "nothing to hear")
        made = super().prepare(samples, options)
        self.prepared.append(len(samples))
        return made

    def infer(self, batch: Sequence[Prepared[Item]]) -> list[Item | Prepared[Item]]:
        results: list[Item | Prepared[Item]] = []
        for each, result in zip(batch, super().infer(batch), strict=True):
            n = len(each.input.samples)
            again = n >= 10 and n not in self.seen
            self.seen.add(n)
            results.append(Prepared(each.input, 1, group="again") if again else result)
        return results

    def finish(self, raw: Item) -> Hypothesis:
        self.helpers.add(threading.get_ident())
        if len(raw.samples) == 9:
            raise ModelError("nine")
        return super().finish(raw)


@pytest.fixture
def picky() -> Iterator[tuple[PickyEngine, Batcher]]:
    engine = PickyEngine()
    batcher = Batcher(engine, max_wait_ms=0)
    yield engine, batcher
    engine.gate.set()
    batcher.close()


def test_chunks_are_prepared_while_the_device_works_and_by_other_threads(
    picky: tuple[PickyEngine, Batcher],
) -> None:
    engine, batcher = picky
    occupy(engine, batcher)
    futures = [batcher.submit(item(n), EN) for n in (1, 2, 3)]
    wait_until(lambda: len(engine.prepared) == 4)
    assert len(engine.calls) == 1

    engine.gate.set()
    for future in futures:
        future.result(60)
    assert not engine.helpers & engine.threads


def test_what_is_to_be_inferred_once_more_goes_first_and_holds_up_no_other_of_its_batch(
    picky: tuple[PickyEngine, Batcher],
) -> None:
    engine, batcher = picky
    occupy(engine, batcher)
    first = [batcher.submit(item(n), EN) for n in (1, 10, 2, 11)]
    later = [batcher.submit(item(n), EN) for n in (3, 4)]
    await_prepared(batcher)
    engine.gate.set()

    heard = [future.result(60) for future in [*first, *later]]

    sizes = [items for _, items in engine.calls[1:]]
    assert sizes == [[1, 10, 2, 11], [10, 11], [3, 4]]
    assert [each.hypothesis.language for each in heard] == ["1", "10", "2", "11", "3", "4"]
    # The call that began first counts, and the time of both.
    assert [each.batch_size for each in heard] == [4, 4, 4, 4, 2, 2]
    assert heard[1].inference_s > heard[0].inference_s


def test_what_goes_wrong_before_and_after_the_device_is_told_to_that_chunk_alone(
    picky: tuple[PickyEngine, Batcher],
) -> None:
    engine, batcher = picky
    engine.gate.set()
    futures = {n: batcher.submit(item(n), EN) for n in (1, 7, 8, 9)}

    with pytest.raises(ModelError, match="seven"):
        futures[7].result(60)
    with pytest.raises(ModelError, match="nine"):
        futures[9].result(60)
    assert futures[1].result(60).hypothesis.language == "1"
    silent = futures[8].result(60)
    assert (silent.hypothesis.language, silent.batch_size) == ("nothing to hear", 0)
    assert batcher.room() == 8
