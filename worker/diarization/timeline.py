"""Turns out of windows: whose voice each local speaker is, and who talks in each frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.speakers.turns import Turn
from worker.diarization.hearing import FIRST_FRAME_SAMPLES, FRAME_SAMPLES
from worker.diarization.protocol import Activities, Vectors

BLOCK_FRAMES = 600 * SAMPLE_RATE // FRAME_SAMPLES
"""Frames that are judged at once, ten minutes, so that memory does not grow with the recording."""
EDGE_FRAMES = 2 * SAMPLE_RATE // FRAME_SAMPLES
"""What a window says counts less the nearer to its edge it is, within 2 s."""
LEAST_TURN_FRAMES = 6
"""Shorter turns, 0.1 s, are clicks."""
N_NEAR = 4
"""Embedded windows on either side that a window between them may overlap."""
SURE_MARGIN = 0.3
"""A voice is surely its speaker's if it is so much more like them (cosine) than anybody else."""


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The windows of a whole recording, in time order."""

    firsts: npt.NDArray[np.int64]
    """The first frame of each, on the recording's timeline; shape (n_windows,)."""
    lengths: npt.NDArray[np.int32]
    activity: Sequence[npt.NDArray[np.uint8]]
    """Of each window, shape (n_frames, n_local)."""
    windows: npt.NDArray[np.int64]
    """The window of each embedding."""
    voices: npt.NDArray[np.int64]
    alone_s: npt.NDArray[np.float32]
    embeddings: Vectors
    plda: Vectors
    """See ``Activities.plda``."""
    plda_variances: Vectors
    """See ``Activities.plda_variances``."""

    @property
    def n_local(self) -> int:
        """How many local speakers a window has."""
        return self.activity[0].shape[1] if self.activity else 0


def join(activities: Sequence[Activities]) -> Windows:
    """Return the windows of all spans, whatever their order."""
    spans = sorted(activities, key=lambda each: each.starts.tolist())
    starts = np.concatenate([np.zeros(0, np.int64), *(each.starts for each in spans)])
    counts = np.cumsum([0, *(len(each.starts) for each in spans)])
    offsets = [n + each.windows.astype(np.int64) for n, each in zip(counts, spans, strict=False)]
    with_voices = [each for each in spans if len(each.embeddings)]
    no_voices = [np.zeros((0, 0))]
    lengths = np.concatenate([np.zeros(0, np.int32), *(each.lengths for each in spans)])
    activity = [window for each in spans for window in each.activity]
    # Spans hear what is around them, so their windows begin before others' have ended.
    order = np.argsort(starts, kind="stable")
    places = np.argsort(order, kind="stable")
    return Windows(
        np.round((starts[order] + FIRST_FRAME_SAMPLES) / FRAME_SAMPLES).astype(np.int64),
        lengths[order],
        [activity[number] for number in order.tolist()],
        places[np.concatenate([np.zeros(0, np.int64), *offsets])],
        np.concatenate([np.zeros(0, np.int64), *(each.voices for each in spans)]).astype(int),
        np.concatenate([np.zeros(0, np.float32), *(each.alone_s for each in spans)]),
        np.concatenate([each.embeddings for each in with_voices] or no_voices).astype(np.float32),
        np.concatenate([each.plda for each in with_voices] or no_voices).astype(np.float32),
        with_voices[0].plda_variances if with_voices else np.zeros(0, np.float32),
    )


def assign(
    windows: Windows, centroids: Vectors
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return whose voice each local speaker is, and how surely; shapes (n_windows, n_local).

    Two local speakers of a window are two speakers, if there are so many. -1: nobody's.
    """
    n_windows, n_speakers, n_local = len(windows.firsts), len(centroids), windows.n_local
    speakers = np.full((n_windows, n_local), -1)
    sureness = np.zeros((n_windows, n_local), np.float32)
    if not n_speakers:
        return speakers, sureness
    alike = windows.embeddings @ centroids.T
    ranked = np.argsort(-alike, axis=1, kind="stable")[:, :n_local]
    order = np.argsort(windows.windows, kind="stable")
    borders = np.flatnonzero(np.diff(windows.windows[order])) + 1
    for members in np.split(order, borders) if len(order) else ():
        chosen = _distinct(alike[members], ranked[members])
        at = windows.windows[members], windows.voices[members]
        speakers[at] = chosen
        sureness[at] = _sureness(alike[members], chosen)
    embedded = np.unique(windows.windows)
    for number in np.setdiff1d(np.arange(n_windows), embedded).tolist():
        _assign_by_times(windows, embedded, number, speakers, sureness)
    return speakers, sureness


def _assign_by_times(
    windows: Windows,
    embedded: npt.NDArray[np.int64],
    number: int,
    speakers: npt.NDArray[np.int64],
    sureness: npt.NDArray[np.float32],
) -> None:
    """Say whose voices a window's are by who talks at the same times in embedded windows."""
    n_speakers, n_local = int(speakers.max()) + 1, windows.n_local
    together = np.zeros((n_local, max(n_speakers, n_local)), np.float32)
    first, activity = int(windows.firsts[number]), windows.activity[number]
    end = first + int(windows.lengths[number])
    near = np.searchsorted(embedded, number)
    for other in embedded[max(0, near - N_NEAR) : near + N_NEAR].tolist():
        begin = max(first, int(windows.firsts[other]))
        stop = min(end, int(windows.firsts[other] + windows.lengths[other]))
        if begin < stop:
            ours = activity[begin - first : stop - first].astype(np.float32)
            at = int(windows.firsts[other])
            theirs = windows.activity[other][begin - at : stop - at].astype(np.float32)
            for voice in np.flatnonzero(speakers[other] >= 0).tolist():
                together[:, speakers[other, voice]] += ours.T @ theirs[:, voice]
    heard = np.flatnonzero(together.max(axis=1) > 0)
    if len(heard):
        rows = together[heard]
        chosen = _distinct(rows, np.argsort(-rows, axis=1, kind="stable")[:, :n_local])
        share = rows[np.arange(len(heard)), chosen] / rows.sum(axis=1)
        is_known = share > 0
        speakers[number, heard[is_known]] = chosen[is_known]
        sureness[number, heard[is_known]] = share[is_known]


def _distinct(
    alike: npt.NDArray[np.float32], ranked: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Choose a speaker for each local speaker of a window, each another, most alike in all."""
    if len(alike) == 1 or alike.shape[1] < len(alike):
        return ranked[:, 0]
    rows = np.arange(len(alike))
    choices = [np.array(each) for each in product(*ranked) if len(set(each)) == len(each)]
    return max(choices, key=lambda each: float(alike[rows, each].sum()))


def _sureness(
    alike: npt.NDArray[np.float32], chosen: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    if alike.shape[1] == 1:
        return np.ones(len(chosen), np.float32)
    rows = np.arange(len(chosen))
    others = alike.copy()
    others[rows, chosen] = -1
    margins = alike[rows, chosen] - others.max(axis=1)
    return np.asarray(np.clip(margins / SURE_MARGIN, 0, 1), np.float32)


def turns(
    windows: Windows,
    speakers: npt.NDArray[np.int64],
    sureness: npt.NDArray[np.float32],
    n_speakers: int,
) -> list[Turn]:
    """Return who talks when, in time order, with the numbers of ``speakers``.

    A turn is cut where somebody else begins or ends to talk at the same time.
    """
    if not len(windows.firsts) or not n_speakers:
        return []
    first = int(windows.firsts.min())
    end = int((windows.firsts + windows.lengths).max())
    pieces: list[list[_Piece]] = [[] for _ in range(n_speakers)]
    for begin in range(first, end, BLOCK_FRAMES):
        block = begin, min(begin + BLOCK_FRAMES, end)
        around = max(first, begin - LEAST_TURN_FRAMES), min(block[1] + LEAST_TURN_FRAMES, end)
        talks, trust = _judge(windows, speakers, sureness, n_speakers, *around)
        for speaker in range(n_speakers):
            _drop_clicks(talks[speaker])
        own = slice(begin - around[0], block[1] - around[0])
        several = talks[:, own].sum(axis=0) > 1
        for speaker, earlier in enumerate(pieces):
            for at, stop in _stretches(talks[speaker, own] * (1 + several)):
                total = float(trust[speaker, own][at:stop].sum(dtype=np.float64))
                _append(earlier, _Piece(begin + at, begin + stop, bool(several[at]), total))
    found = [
        Turn(
            max(0.0, (piece.begin - 0.5) * FRAME_SAMPLES / SAMPLE_RATE),
            (piece.end - 0.5) * FRAME_SAMPLES / SAMPLE_RATE,
            speaker,
            piece.overlap,
            round(piece.trust / (piece.end - piece.begin), 3),
        )
        for speaker, own_pieces in enumerate(pieces)
        for piece in own_pieces
    ]
    return sorted(found, key=lambda turn: (turn.start_s, turn.end_s, turn.speaker))


class _Piece(NamedTuple):
    """Frames [begin, end) in which a speaker talks, alone or with others."""

    begin: int
    end: int
    overlap: bool
    trust: float
    """The sum over its frames."""


def _append(pieces: list[_Piece], piece: _Piece) -> None:
    """Append a piece, joined with the last one where a block's border has cut them apart."""
    if pieces and pieces[-1].end == piece.begin and pieces[-1].overlap == piece.overlap:
        last = pieces.pop()
        piece = piece._replace(begin=last.begin, trust=last.trust + piece.trust)
    pieces.append(piece)


def _judge(
    windows: Windows,
    speakers: npt.NDArray[np.int64],
    sureness: npt.NDArray[np.float32],
    n_speakers: int,
    begin: int,
    end: int,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Return who talks in frames [begin, end), and how surely; shapes (n_speakers, n_frames)."""
    n_frames = end - begin
    scores = np.zeros((n_speakers, n_frames), np.float32)
    trust = np.zeros((n_speakers, n_frames), np.float32)
    talkers = np.zeros(n_frames, np.float32)
    total = np.full(n_frames, 1e-6, np.float32)
    stops = windows.firsts + windows.lengths
    for number in np.flatnonzero((windows.firsts < end) & (stops > begin)).tolist():
        skipped = max(0, begin - int(windows.firsts[number]))
        length = int(windows.lengths[number])
        kept = min(length, end - int(windows.firsts[number]))
        at = slice(int(windows.firsts[number]) + skipped - begin, None)
        at = slice(at.start, at.start + kept - skipped)
        weight = _weight(length)[skipped:kept]
        activity = windows.activity[number][skipped:kept] * np.float32(1 / 255)
        total[at] += weight
        talkers[at] += weight * activity.sum(axis=1)
        for speaker in np.unique(speakers[number]):
            if speaker >= 0:
                own = speakers[number] == speaker
                heard = weight * activity[:, own].max(axis=1)
                scores[speaker, at] += heard
                trust[speaker, at] += heard * sureness[number][own].max()
    n_talkers = np.round(talkers / total)
    rank = np.argsort(np.argsort(-scores, axis=0, kind="stable"), axis=0, kind="stable")
    return (rank < n_talkers) & (scores > 0.1 * total), trust / total


def _weight(n_frames: int) -> npt.NDArray[np.float32]:
    """Return how much a window's frames count."""
    positions = np.arange(n_frames)
    to_edge = np.minimum(positions, positions[::-1]) + 1
    return np.minimum(to_edge / EDGE_FRAMES, 1).astype(np.float32)


def _drop_clicks(talks: npt.NDArray[np.bool_]) -> None:
    for begin, end in _stretches(talks):
        if end - begin < LEAST_TURN_FRAMES:
            talks[begin:end] = False


def _stretches(values: npt.NDArray[np.generic]) -> list[tuple[int, int]]:
    """Return where equal values other than 0 begin and end."""
    numbers = values.astype(np.int8)
    borders = np.flatnonzero(np.diff(numbers, prepend=0, append=0))
    pairs = zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)
    return [(begin, end) for begin, end in pairs if numbers[begin]]
