"""Hits of a search on the wire."""

from typing import Self
from uuid import UUID

from pydantic import BaseModel, Field

from shared.store.search import Hit


class SearchMatch(BaseModel):
    """Words that were asked for, where they were said."""

    text: str
    start: float = Field(description="seconds into the original file")
    end: float = Field(description="seconds into the original file")


class SearchHit(BaseModel):
    """A segment that has all that was asked for."""

    job_id: UUID = Field(description="the newest job that has the transcript")
    source_name: str = Field(description="of that job's file")
    segment: int = Field(description="its id in the transcript")
    start: float = Field(description="seconds into the original file")
    end: float = Field(description="seconds into the original file")
    channel: int | None = Field(description="from 0; null where channels were mixed down")
    text: str
    before: str | None = Field(description="the segment before it; null: there is none")
    after: str | None = Field(description="the segment after it; null: there is none")
    matches: list[SearchMatch] = Field(description="in order")

    @classmethod
    def of(cls, hit: Hit) -> Self:
        """Return the wire form of a hit."""
        segment = hit.segment
        return cls(
            job_id=hit.job_id,
            source_name=hit.source_name,
            segment=segment.id,
            start=segment.start,
            end=segment.end,
            channel=segment.channel,
            text=segment.text,
            before=hit.before,
            after=hit.after,
            matches=[
                SearchMatch(text=each.text, start=each.start, end=each.end) for each in hit.matches
            ],
        )


class SearchPage(BaseModel):
    """Some hits, those in the newest transcripts first."""

    hits: list[SearchHit]
    next_cursor: str | None = Field(description="the next page's cursor; null on the last page")
