"""What clients send: JSON, checked against the messages of their protocol."""

from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from api.live.errors import LiveError
from shared.models.options import ESCAPED_NUL


class Message(BaseModel):
    """A part of a protocol. Unknown members are refused."""

    model_config = ConfigDict(extra="forbid")


def read_message(messages: TypeAdapter[Any], text: str) -> Any:
    """Return the message in a text.

    Raises:
        LiveError: the text is none of ``messages``.
    """
    try:
        message = messages.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        problem = f"{where}: {first['msg']}" if where else first["msg"]
        raise LiveError("INVALID_MESSAGE", problem) from error
    if ESCAPED_NUL.search(text):
        raise LiveError("INVALID_MESSAGE", "The message has a NUL character.")
    return message
