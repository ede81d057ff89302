"""Decoding items together, several frames ahead, finds what onnx-asr finds one by one."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from onnx_asr.models.nemo import NemoConformerRnnt, NemoConformerTdt

from worker.engines.transducer.greedy import Encoded, Floats, Ints, Rules, States, decode

WIDTH, N_TOKENS, N_DURATIONS = 6, 5, 3
BLANK = N_TOKENS - 1
RNNT = Rules(N_TOKENS, BLANK, has_durations=False, most_per_frame=3)
TDT = RNNT._replace(has_durations=True)


class RandomJoint:
    """Random matrices: every class depends on the frame and on all tokens so far."""

    def __init__(self, rules: Rules, blank_bias: float) -> None:
        rng = np.random.default_rng(3)
        n_classes = N_TOKENS + (N_DURATIONS if rules.has_durations else 0)
        self.of_frame = rng.normal(0, 1, (WIDTH, n_classes)).astype(np.float32)
        self.of_state = rng.normal(0, 1, (WIDTH, n_classes)).astype(np.float32)
        self.of_token = rng.normal(0, 1, (N_TOKENS, WIDTH)).astype(np.float32)
        self.of_state[:, BLANK] = 0
        self.bias = np.zeros(n_classes, np.float32)
        self.bias[BLANK] = blank_bias
        self.n_calls = 0

    def begin(self, n_items: int) -> States:
        zeros = np.zeros((2, 1, n_items, WIDTH), np.float32)
        return zeros[0], zeros[1]

    def __call__(self, frames: Floats, last: Ints, states: States) -> tuple[Floats, States]:
        self.n_calls += 1
        first = np.tanh(states[0] + self.of_token[last])
        second = states[1] * 0.5 + first
        of_text = (second[0] @ self.of_state)[:, None]
        return frames @ self.of_frame + of_text + self.bias, (first, second)


def by_the_library(joint: RandomJoint, encoded: Encoded, rules: Rules) -> list[tuple[Any, ...]]:
    """Return the tokens of one item, their frames and log-probabilities, as onnx-asr finds them."""
    kind: type = NemoConformerTdt if rules.has_durations else NemoConformerRnnt

    class Network(kind):  # type: ignore[misc]
        def __init__(self) -> None:
            self.config = {"max_tokens_per_step": rules.most_per_frame}
            self.use_low_precision = False
            self._vocab_size, self._blank_idx = rules.n_tokens, rules.blank
            self._decoder_joint = self

        def _create_state(self) -> States:
            return joint.begin(1)

        def run(self, _: object, given: dict[str, Any]) -> tuple[Floats, ...]:
            frames = given["encoder_outputs"].transpose(0, 2, 1)
            last = np.array(given["targets"])[:, 0]
            logits, states = joint(frames, last, (given["input_states_1"], given["input_states_2"]))
            return logits, *states

    ((tokens, frames, log_probs),) = Network()._decoding(
        encoded[None], np.array([len(encoded)]), need_logprobs=True
    )
    return [*zip(tokens, frames, log_probs, strict=True)]


def sounds(*n_frames: int) -> list[Encoded]:
    rng = np.random.default_rng(4)
    return [rng.normal(0, 1, (n, WIDTH)).astype(np.float32) for n in n_frames]


@pytest.mark.parametrize("rules", [RNNT, TDT], ids=["rnnt", "tdt"])
@pytest.mark.parametrize("n_ahead", [1, 2, 4, 9])
@pytest.mark.parametrize("blank_bias", [-20.0, 0.0, 2.0, 4.0])
def test_items_together_have_the_tokens_that_the_library_finds_for_each(
    rules: Rules, n_ahead: int, blank_bias: float
) -> None:
    joint = RandomJoint(rules, blank_bias)
    encoded = sounds(30, 1, 0, 17, 64, 5)

    together = decode(joint, encoded, rules, n_ahead)

    for item, tokens in zip(encoded, together, strict=True):
        alone = by_the_library(joint, item, rules)
        assert [(token.symbol, token.frame) for token in tokens] == [each[:2] for each in alone]
        assert [token.log_prob for token in tokens] == pytest.approx(
            [each[2] for each in alone], abs=1e-4
        )
    assert blank_bias == 4.0 or sum(map(len, together)) > 20


def test_blank_frames_cost_a_call_for_as_many_as_are_asked_about() -> None:
    joint = RandomJoint(RNNT, blank_bias=1_000.0)

    assert decode(joint, sounds(40, 24), RNNT, n_ahead=8) == [[], []]
    assert joint.n_calls == 5


def test_no_network_emits_without_end_at_one_frame() -> None:
    joint = RandomJoint(RNNT, blank_bias=-1_000.0)

    (tokens,) = decode(joint, sounds(4), RNNT, n_ahead=4)

    assert [token.frame for token in tokens] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_tokens_of_a_tdt_are_as_far_apart_as_it_says() -> None:
    joint = RandomJoint(TDT, blank_bias=-1_000.0)

    (tokens,) = decode(joint, sounds(50), TDT, n_ahead=4)

    assert {token.duration for token in tokens} == {0, 1, 2}
    n_here = 0
    for token, following in pairwise(tokens):
        n_here = n_here + 1 if token.duration == 0 else 0
        stuck = n_here == TDT.most_per_frame
        assert following.frame - token.frame == (1 if stuck else token.duration)
        n_here = 0 if stuck else n_here


def test_no_items_are_no_error() -> None:
    assert decode(RandomJoint(TDT, 0.0), [], TDT, n_ahead=4) == []
