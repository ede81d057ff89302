"""A stranger's file as samples: read here if it is plain PCM, otherwise decoded apart."""

from collections.abc import Iterator
from typing import BinaryIO

from shared.infra.decoder_server import DecoderServer
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Channels
from worker.media.findings import Findings
from worker.media.plain import plain_samples, read_plain
from worker.media.sandbox.client import Limits, decode


def read_audio(
    server: DecoderServer,
    source: BinaryIO,
    n_bytes: int,
    limits: Limits,
    *,
    apart: bool = False,
    track: str | None = None,
    strict: bool = False,
    findings: Findings,
) -> Iterator[Channels]:
    """Yield what ``worker.media.decode.decode`` does of a file of ``n_bytes``.

    Raises:
        MediaError, PoisonousInput, NoDecoder, DecoderBug: as ``worker.media.sandbox.client``.
    """
    plain = None if track else plain_samples(source, n_bytes)
    if plain is not None and plain[1] <= limits.audio_s * SAMPLE_RATE:
        return read_plain(source, *plain, findings)
    return decode(
        server, source, limits, apart=apart, track=track, strict=strict, findings=findings
    )
