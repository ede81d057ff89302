"""A Whisper of 1.5 million parameters, trained from nothing on spoken word lists.

Attention from scratch finds no alignment on long sentences, so training goes from single words to
longer ones on windows cut to the batch's longest, with a CTC loss on the encoder beside the
decoder's, then to windows with several sentences, and ends as the model will be used: on a few
sentences, silence or noise, and digital silence up to 30 s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.modeling_whisper import WhisperAttention

from tests.models.recipe.ctc import ctc_loss
from tests.models.recipe.curriculum import LENGTHS, Curriculum
from tests.models.recipe.data import SAMPLE_RATE
from tests.models.recipe.features import WhisperFeatures
from tests.models.recipe.tokens import Vocabulary
from tests.models.recipe.training import Trainee
from tests.models.recipe.windows import Sentence, Stage, Window, stack

WIDTH, ENCODER_LAYERS, DECODER_LAYERS = 128, 3, 2
ENCODER_HEADS, DECODER_HEADS = 2, 4
"""Of 64 in the encoder, as in all Whispers: its attention's time grows with their number."""
MELS, WINDOW_S = 80, 30.0
LATEST_FIRST_TIMESTAMP_S = 1.0
"""Whisper's decoders allow no later beginning, so none is taught."""
CTC_WEIGHT, TIMESTAMP_WEIGHT = 0.4, 0.3
INITIAL_SPREAD = 0.08
"""Of weights, about 1 / sqrt(WIDTH): the library's 0.02 is meant for wider models. At that, by
reckoning, the convolutions' output is a twentieth of the position codes that are added to it."""
IGNORED = -100

CURRICULUM = Curriculum(
    2e-3,
    (
        Stage(100, 48, (1,)),
        Stage(200, 48, (1, 3)),
        Stage(500, 32, LENGTHS),
        Stage(1_500, 16, LENGTHS, n_sentences=4, window_s=12.0, cut=True),
        Stage(2_000, 10, LENGTHS, n_sentences=12, window_s=28.0, cut=True),
    ),
)
PADDED_WHOLLY, LONGEST_OTHERWISE_S = 0.15, 15.0
"""How many batches of cut windows are as long as 30 s; it is not worth more of the time."""


def write_tokens(
    sentences: Sequence[Sentence], vocabulary: Vocabulary, *, timed: bool, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Return what the decoder is given and what it must answer, token by token."""
    english, transcribe = vocabulary.id("<|en|>"), vocabulary.id("<|transcribe|>")
    prompt = [vocabulary.start, english, transcribe]
    if not timed:
        prompt.append(vocabulary.id("<|notimestamps|>"))
    body = []
    for i, sentence in enumerate(sentences):
        start_s = sentence.start_s if i else min(sentence.start_s, LATEST_FIRST_TIMESTAMP_S)
        text = vocabulary.encode(sentence.text)
        if timed:
            text = [vocabulary.timestamp(start_s), *text, vocabulary.timestamp(sentence.end_s)]
        body += text
    answers = [english if sentences else vocabulary.id("<|nospeech|>")]
    answers += [IGNORED] * (len(prompt) - 2)
    if not sentences and timed:
        # Decoders ask for a beginning whatever the window holds: any one, then the end.
        body = [vocabulary.timestamp(rng.uniform(0, LATEST_FIRST_TIMESTAMP_S))]
        return prompt + body, [*answers, IGNORED, vocabulary.end]
    return prompt + body, [*answers, *body, vocabulary.end]


class Whisper(Trainee):
    """Audio to a loss; ``model`` is what is kept.

    A CTC head on its encoder is there for training only.
    """

    token_weights: Tensor
    """How much an answer counts, by the token it should be."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.features = WhisperFeatures()
        self.model = WhisperForConditionalGeneration(_config(vocabulary))
        self.ctc = nn.Linear(WIDTH, vocabulary.end + 1)  # its blank is the end token
        weights = torch.ones(len(vocabulary))
        weights[vocabulary.first_timestamp :] = TIMESTAMP_WEIGHT
        self.register_buffer("token_weights", weights, persistent=False)
        with torch.no_grad():
            # A timestamp begins as the encoder's own code for its frame: equally spaced, 20 ms.
            frames = self.model.model.encoder.embed_positions.weight
            decoder = self.model.model.decoder
            times = decoder.embed_tokens.weight[vocabulary.first_timestamp :]
            times[: len(frames)] = 0.1 * frames
            # Positions are coded alike, and stay so: each learned by itself, the later ones, which
            # few windows reach, would not know which token came before them.
            positions = decoder.embed_positions.weight.requires_grad_(False)
            positions.copy_(0.1 * frames[: len(positions)])

    @property
    def heads(self) -> Sequence[nn.Module]:
        return [self.ctc, self.model.proj_out]

    def loss(self, windows: Sequence[Window], stage: Stage, rng: np.random.Generator) -> Tensor:
        batch = make_batch(windows, stage, self.vocabulary, rng)
        logits, log_probs = self(batch.audio, batch.given)
        answered = functional.cross_entropy(
            logits.float().flatten(0, 1),
            batch.answers.flatten(),
            self.token_weights,
            ignore_index=IGNORED,
        )
        # Windows count with their padding, as Whisper's encoder hears it: as silence, a blank.
        n_steps = torch.full((len(windows),), log_probs.shape[1])
        encode = self.vocabulary.encode
        texts = [encode(window.text) if window.sentences else [] for window in windows]
        heard = ctc_loss(log_probs, n_steps, texts, self.vocabulary.end)
        return answered + CTC_WEIGHT * heard

    def encode(self, audio: Tensor) -> Tensor:
        """Return (n, frames, WIDTH) of (n, samples) of any length; the library takes 30 s only."""
        encoder = self.model.model.encoder
        hidden = functional.gelu(encoder.conv1(self.features(audio)))
        hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            hidden = hidden + _attend_to_itself(layer.self_attn, layer.self_attn_layer_norm(hidden))
            inner = functional.gelu(layer.fc1(layer.final_layer_norm(hidden)))
            hidden = hidden + layer.fc2(inner)
        return encoder.layer_norm(hidden)

    def forward(self, audio: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decoder's logits and the CTC head's log-probabilities (n, steps, classes).

        A step is two of the encoder's frames, 40 ms: no token is shorter.
        """
        encoded = self.encode(audio)
        logits = self.model(encoder_outputs=(encoded,), decoder_input_ids=given).logits
        return logits, self.ctc(encoded[:, ::2]).float().log_softmax(-1)


def _attend_to_itself(attention: WhisperAttention, hidden: Tensor) -> Tensor:
    """Return what the library's module does, in a third of the time.

    Item by item, so that the scores of one, (heads, frames, frames), stay in the cache.
    """
    split = (attention.num_heads, attention.head_dim)
    query, key, value = (
        project(hidden).unflatten(-1, split).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    with torch.autocast("cpu", enabled=False):  # it would have the softmax in 32 bits
        mixed = [
            ((q * attention.scaling) @ k.transpose(-1, -2)).softmax(-1) @ v
            for q, k, v in zip(query, key, value, strict=True)
        ]
    return attention.out_proj(torch.stack(mixed).transpose(1, 2).flatten(2))


def _config(vocabulary: Vocabulary) -> WhisperConfig:
    return WhisperConfig(
        vocab_size=len(vocabulary),
        num_mel_bins=MELS,
        d_model=WIDTH,
        encoder_layers=ENCODER_LAYERS,
        decoder_layers=DECODER_LAYERS,
        encoder_attention_heads=ENCODER_HEADS,
        decoder_attention_heads=DECODER_HEADS,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        dropout=0.0,
        init_std=INITIAL_SPREAD,
        max_source_positions=1_500,
        max_target_positions=448,
        bos_token_id=vocabulary.end,
        eos_token_id=vocabulary.end,
        pad_token_id=vocabulary.end,
        decoder_start_token_id=vocabulary.start,
        suppress_tokens=[],
        begin_suppress_tokens=None,
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows as tensors; audio padded with silence, tokens with the end token."""

    audio: Tensor
    given: Tensor
    answers: Tensor


def make_batch(
    windows: Sequence[Window], stage: Stage, vocabulary: Vocabulary, rng: np.random.Generator
) -> Batch:
    """Write down what is to be answered, and lengthen what is heard as engines do."""
    tokens = [
        write_tokens(window.sentences, vocabulary, timed=rng.random() < 0.85, rng=rng)
        for window in windows
    ]
    audio, _ = stack(windows)
    if stage.cut:
        # As in use: what is heard is followed by silence up to 30 s.
        length_s = WINDOW_S
        if rng.random() >= PADDED_WHOLLY:
            heard_s = audio.shape[1] / SAMPLE_RATE
            length_s = rng.uniform(heard_s, max(heard_s, LONGEST_OTHERWISE_S))
        n_samples = int(length_s * SAMPLE_RATE) // 320 * 320
        audio = functional.pad(audio, (0, max(0, n_samples - audio.shape[1])))
    n_tokens = max(len(given) for given, _ in tokens)
    given = torch.full((len(windows), n_tokens), vocabulary.end)
    answers = torch.full((len(windows), n_tokens), IGNORED)
    for i, (asked, answered) in enumerate(tokens):
        given[i, : len(asked)] = torch.tensor(asked)
        answers[i, : len(answered)] = torch.tensor(answered)
    return Batch(audio, given, answers)
