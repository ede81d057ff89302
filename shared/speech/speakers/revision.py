"""What a job's owner says of its speakers: their names, and which of them are one person.

A transcript is stored as it was diarized, and revised as it is read. Words stay as they are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from shared.speech.transcript.transcript import Segment, Speaker, TranscriptHeader


class Revision(BaseModel):
    """The state of a job's speakers after so many changes of its owner."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    number: int = Field(default=0, description="how often they were changed")
    names: Mapping[int, str] = Field(default={}, description="by speaker; the others have none")
    merged: Mapping[int, int] = Field(
        default={}, description="speakers and who they are merged into, who is not merged"
    )

    def speakers(self, found: Sequence[Speaker]) -> list[Speaker]:
        """Return a transcript's speakers with their names, without those that are merged."""
        speech_s = {each.id: each.speech_s for each in found}
        for speaker, into in self.merged.items():
            speech_s[into] += speech_s[speaker]
        return [
            Speaker(
                id=each.id,
                name=self.names.get(each.id, each.name),
                speech_s=round(speech_s[each.id], 3),
                recognized=each.recognized,
            )
            for each in found
            if each.id not in self.merged
        ]

    def header(self, header: TranscriptHeader) -> TranscriptHeader:
        """Return a transcript's header with its speakers revised."""
        if header.speakers is None:
            return header
        return header.model_copy(update={"speakers": self.speakers(header.speakers)})

    def segments(self, segments: Iterable[Segment]) -> Iterable[Segment]:
        """Return the same segments with their speakers revised, if any are merged."""
        return _MergedSegments(segments, self.merged) if self.merged else segments


@dataclass(frozen=True, slots=True)
class _MergedSegments:
    """Segments some of whose speakers are one. Each iteration reads them anew."""

    segments: Iterable[Segment]
    merged: Mapping[int, int]

    def __iter__(self) -> Iterator[Segment]:
        for segment in self.segments:
            speaker = segment.speaker
            if speaker is not None and speaker in self.merged:
                into = self.merged[speaker]
                words = [word.model_copy(update={"speaker": into}) for word in segment.words]
                yield segment.model_copy(update={"speaker": into, "words": words})
            else:
                yield segment
