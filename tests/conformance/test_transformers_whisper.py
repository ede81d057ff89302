"""What the Whisper on torch does beyond what both Whispers do."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.engines.random_ctc import catalogue_entry
from shared.infra.errors import ModelError
from shared.models.catalogue import Model
from shared.speech.audio.samples import Samples
from worker.engines import load_engine
from worker.engines.protocol import DecodeOptions
from worker.engines.whisper.answer_scores import AnswerScores
from worker.engines.whisper.gpu_batch import LARGEST_GPU_BATCH, largest_batch
from worker.engines.whisper.transformers_whisper import TransformersWhisperEngine
from worker.engines.whisper.vocabulary import MAX_POSITIONS
from worker.engines.whisper.whisper import Answer


@pytest.fixture
def engine(random_transformers_whisper: Model) -> TransformersWhisperEngine:
    """One of the test's own, to be changed."""
    loaded = load_engine(random_transformers_whisper, device="cpu", dtype="float32")
    assert isinstance(loaded, TransformersWhisperEngine)
    return loaded


@pytest.mark.parametrize("beam_size", [1, 3])
def test_scores_that_are_noted_on_the_way_are_those_of_the_finished_answers(
    engine: TransformersWhisperEngine, noises: list[Samples], beam_size: int
) -> None:
    import torch

    with torch.inference_mode():
        encoded = engine._encode([engine._features_of(noise) for noise in noises])
        given = torch.full((2, 1), engine._vocabulary.start)
        rules = engine._next_token.after(1)
        scoring = AnswerScores(rules, 1, engine._vocabulary.end, beam_size)

        made = engine._generate(encoded, given, [scoring], num_beams=beam_size)

        scores = scoring.means(made.sequences, getattr(made, "beam_indices", None))
        read = engine._read(made.sequences, encoded.hidden, engine._new_cache(encoded))
        logits = engine._net.proj_out(read).float()
        for item, tokens in enumerate(made.sequences):
            n = 1 + int((tokens[1:] != engine._vocabulary.end).sum()) + 1
            expected = [
                rules(tokens[None, :at], logits[item, None, at - 1].clone()).log_softmax(-1)[
                    0, tokens[at]
                ]
                for at in range(1, n)
            ]
            assert float(scores[item]) == pytest.approx(float(sum(expected)) / (n - 1), abs=1e-3)


@pytest.mark.parametrize(
    "search", [{"num_beams": 3}, {"do_sample": True, "num_return_sequences": 3}]
)
def test_answers_that_share_their_items_keys_are_those_of_the_librarys_own_cache(
    engine: TransformersWhisperEngine, noises: list[Samples], search: dict[str, int]
) -> None:
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    def answers() -> torch.Tensor:
        torch.manual_seed(0)
        sequences: torch.Tensor = engine._generate(encoded, given, [rules], **search).sequences
        return sequences

    with torch.inference_mode():
        encoded = engine._encode([engine._features_of(noise) for noise in noises])
        given = torch.full((2, 1), engine._vocabulary.start)
        rules = engine._next_token.after(1)
        shared = answers()
        own = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for i, layer in enumerate(encoded.cross.layers):
            keys, values = (each.repeat_interleave(3, 0) for each in (layer.keys, layer.values))
            own.cross_attention_cache.update(keys, values, i)
            own.is_updated[i] = True
        engine._new_cache = lambda _: own  # type: ignore[method-assign]

        assert shared.tolist() == answers().tolist()


def test_keys_of_an_item_are_computed_once_for_all_its_beams_and_its_word_times(
    engine: TransformersWhisperEngine, noises: list[Samples]
) -> None:
    rows: list[int] = []
    attention = engine._net.model.decoder.layers[0].encoder_attn
    attention.k_proj.register_forward_hook(lambda _module, inputs, _: rows.append(len(inputs[0])))

    heard = engine.transcribe(noises, DecodeOptions(language="en", beam_size=3))

    assert rows == [len(noises)]
    assert all(hypothesis.words for hypothesis in heard)


def test_bfloat16_works_on_the_processor(
    random_transformers_whisper: Model, noises: list[Samples]
) -> None:
    engine = load_engine(random_transformers_whisper, device="cpu", dtype="bfloat16")

    assert engine.dtype == "bfloat16"
    assert engine.transcribe(noises[:1], DecodeOptions(language="en"))[0].words


def test_half_precision_on_the_processor_is_a_clear_error(
    random_transformers_whisper: Model,
) -> None:
    with pytest.raises(ModelError, match="cannot compute in float16 on cpu"):
        load_engine(random_transformers_whisper, device="cpu", dtype="float16")


def test_weights_that_lack_a_tensor_are_refused(
    random_transformers_whisper: Model, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    whole = random_transformers_whisper.folder
    assert whole is not None
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.decoder.layers.1.fc2.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelError, match=r"lack model\.decoder\.layers\.1\.fc2\.weight"):
        load_engine(catalogue_entry("x", tmp_path, "transformers-whisper"), device="cpu")


def test_batch_on_a_gpu_is_what_fits() -> None:
    assert largest_batch(room_bytes=1_000, fixed_bytes=100, item_bytes=100) == 9
    assert largest_batch(room_bytes=10**9, fixed_bytes=0, item_bytes=1) == LARGEST_GPU_BATCH
    assert largest_batch(room_bytes=50, fixed_bytes=100, item_bytes=100) == 1


def test_batch_is_sized_by_the_peaks_of_one_and_two_windows_with_a_full_decoder(
    engine: TransformersWhisperEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    peaks = iter([130, 190])  # bytes: 70 whatever the batch, and 60 for each window
    for name, give in {
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda: None,
        "memory_allocated": lambda: 0,
        "max_memory_allocated": lambda: next(peaks),
        "mem_get_info": lambda: (1_000, 2_000),
    }.items():
        monkeypatch.setattr(torch.cuda, name, give)
    shapes = []
    generate = engine._generate

    def noted(*args: object, **search: object) -> object:
        generated = generate(*args, **search)
        shapes.append(tuple(generated.sequences.shape))
        return generated

    monkeypatch.setattr(engine, "_generate", noted)

    # Four fifths of 1,000 bytes, less 70, hold twelve times 60.
    assert engine._fit_batch(beam_size=1) == 12
    assert shapes == [(1, MAX_POSITIONS), (2, MAX_POSITIONS)]


def test_fallback_on_a_gpu_decodes_no_more_answers_at_once_than_fit(
    engine: TransformersWhisperEngine, noises: list[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = []
    decode = engine._answer_at_once

    def noted(
        encoded: object, prompts: Sequence[Sequence[int]], temperature: float, beam_size: int
    ) -> list[Answer]:
        at_once.append((temperature, len(prompts)))
        # Guesses are decoded again, at the next temperature.
        return [
            answer._replace(avg_logprob=-2.0 if temperature == 0 else -0.1, tokens=[300, 301])
            for answer in decode(encoded, prompts, temperature, beam_size)
        ]

    monkeypatch.setattr(engine, "_answer_at_once", noted)
    engine._answers_at_once = 2

    heard = engine.transcribe(noises, DecodeOptions(language="en", beam_size=1))

    assert at_once == [(0.0, 2), (0.2, 1), (0.2, 1)]
    assert all(hypothesis.words for hypothesis in heard)
