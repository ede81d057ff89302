"""What is said of transcripts beside themselves."""

from pydantic import BaseModel

from shared.speech.edits import Change


class Changes(BaseModel):
    """What edits changed in a transcript."""

    changes: list[Change]
