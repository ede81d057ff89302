"""A w2v-BERT of 1.1 million parameters that spells: CTC over letters, 20 ms a frame."""

import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForCTC,
    Wav2Vec2BertProcessor,
    Wav2Vec2CTCTokenizer,
)
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

from tests.models.recipe.ctc import SENTENCES, ctc_loss
from tests.models.recipe.curriculum import LENGTHS, Curriculum
from tests.models.recipe.features import W2vBertFeatures, perturb
from tests.models.recipe.training import Trainee
from tests.models.recipe.windows import Stage, Window, stack

SYMBOLS = ["<pad>", "<unk>", "|", "'", *string.ascii_lowercase]
"""The padding doubles as CTC's blank, the bar as the space: the family's custom."""
BLANK = 0
WIDTH = 128
WORD_LAYER = 2
"""Of four, counted from 1: the last that is asked for words; what follows spells."""
CURRICULUM = Curriculum(
    2e-3,
    (
        *SENTENCES,
        Stage(1_600, 32, LENGTHS),
        Stage(2_300, 20, LENGTHS, n_sentences=3, window_s=8.0, cut=True),
        Stage(1_400, 20, LENGTHS, n_sentences=3, window_s=8.0, cut=True, gentle=True),
    ),
    n_sorted=6,
)


class SelfAttention(Wav2Vec2BertSelfAttention):
    """What the library's computes, in half the time.

    Item by item without the padding, so that the scores of one, (heads, frames, frames), stay in
    the cache; and each query is multiplied once by the vectors of all distances, of which the
    library makes a copy for each pair of frames.
    """

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: object
    ) -> tuple[Tensor, None]:
        n, n_frames, _size = hidden_states.shape
        lengths = [n_frames] * n
        if attention_mask is not None:
            lengths = (attention_mask[:, 0, 0] == 0).sum(-1).tolist()
        split = (self.num_heads, self.head_size)
        query, key, value = (
            project(hidden_states).unflatten(-1, split).transpose(1, 2)
            for project in (self.linear_q, self.linear_k, self.linear_v)
        )
        with torch.autocast("cpu", enabled=False):  # it would have the softmax in 32 bits
            items = zip(query * self.scaling, key, value, lengths, strict=True)
            mixed = [
                functional.pad(
                    self._mix(q[:, :length], k[:, :length], v[:, :length]),
                    (0, 0, 0, n_frames - length),
                )
                for q, k, v, length in items
            ]
        return self.linear_out(torch.stack(mixed).transpose(1, 2).flatten(2)), None

    def _mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return (heads, frames, size) for the like, the query being scaled."""
        left, right = self.left_max_position_embeddings, self.right_max_position_embeddings
        frame = torch.arange(query.shape[1])
        distance = (frame - frame[:, None]).clamp(-left, right) + left
        of_distances = query @ self.distance_embedding.weight.to(query.dtype).T
        placed = of_distances.gather(-1, distance.expand(self.num_heads, -1, -1))
        return (query @ key.transpose(-1, -2) + placed).softmax(-1) @ value


class W2vBert(Trainee):
    """Audio to a loss; ``model`` is what is kept.

    An inner layer is asked for whole words, by a head that is there for training only, so that the
    others have but to spell them: a CTC loss on an inner layer (Lee and Watanabe, 2021).
    """

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.words = {word: i for i, word in enumerate(words, BLANK + 1)}
        self.features = W2vBertFeatures()
        self.whole_words = nn.Linear(WIDTH, BLANK + 1 + len(words))
        self.model = Wav2Vec2BertForCTC(
            Wav2Vec2BertConfig(
                vocab_size=len(SYMBOLS),
                hidden_size=WIDTH,
                num_hidden_layers=4,
                num_attention_heads=4,
                intermediate_size=2 * WIDTH,
                feature_projection_input_dim=160,
                conv_depthwise_kernel_size=31,
                right_max_position_embeddings=64,  # the convolutions look to the left alone
                final_dropout=0.0,
                conformer_conv_dropout=0.0,
                layerdrop=0.0,
                apply_spec_augment=False,  # ours hides shorter spans
                pad_token_id=BLANK,
                bos_token_id=None,
                eos_token_id=None,
                attn_implementation="eager",  # its mask, 0 or -inf, is what SelfAttention reads
            )
        )
        for layer in self.model.wav2vec2_bert.encoder.layers:
            layer.self_attn = SelfAttention(self.model.config)

    @property
    def heads(self) -> Sequence[nn.Module]:
        return [self.model.lm_head, self.whole_words]

    def loss(self, windows: Sequence[Window], stage: Stage, rng: np.random.Generator) -> Tensor:
        features, n_steps = self.features(*stack(windows))
        frames = features.unflatten(2, (2, -1)).flatten(1, 2)
        features = perturb(frames, gently=stage.gentle).unflatten(1, (-1, 2)).flatten(2)
        mask = (torch.arange(features.shape[1]) < n_steps[:, None]).long()
        heard = self.model(features, attention_mask=mask, output_hidden_states=True)
        texts = [window.text for window in windows]
        letters = [[SYMBOLS.index(letter) for letter in text.replace(" ", "|")] for text in texts]
        words = [[self.words[word] for word in text.split()] for text in texts]
        inner = self.whole_words(heard.hidden_states[WORD_LAYER])
        return sum(
            ctc_loss(logits.float().log_softmax(-1), n_steps, tokens, BLANK)
            for logits, tokens in ((heard.logits, letters), (inner, words))
        )


def save(model: W2vBert, folder: Path) -> None:
    """Write the folder that ``Wav2Vec2BertForCTC`` and ``Wav2Vec2BertProcessor`` load."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(
        "{" + ", ".join(f'"{symbol}": {i}' for i, symbol in enumerate(SYMBOLS)) + "}\n"
    )
    tokenizer = Wav2Vec2CTCTokenizer(
        str(vocabulary),
        bos_token=None,
        eos_token=None,
        unk_token="<unk>",
        pad_token="<pad>",
        word_delimiter_token="|",
    )
    Wav2Vec2BertProcessor(SeamlessM4TFeatureExtractor(), tokenizer).save_pretrained(folder)
    model.model.half().save_pretrained(folder)
