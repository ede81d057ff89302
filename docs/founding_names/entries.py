"""How a name is told of: as honoured, renamed or left out; and what several services have."""

from docs.founding_kinds import (
    Kind,
    Member,
    ModelName,
    Name,
    Proof,
    Shown,
    Spoken,
    Variable,
    Verdict,
)
from shared.infra.aliases import ALIASES


def here(kind: Kind, name: str, proof: Proof, says: str = "") -> Name:
    """A name that Longhand has, too."""
    return Name(kind, name, Verdict.HONOURED, says, proof)


def renamed(kind: Kind, name: str, proof: Proof, says: str) -> Name:
    """A name for what is called otherwise here."""
    return Name(kind, name, Verdict.ALIASED, says, proof)


def left_out(kind: Kind, name: str, why: str) -> Name:
    """A name for what Longhand does not have."""
    return Name(kind, name, Verdict.LEFT_OUT, why)


def variable(name: str, says: str = "") -> Name:
    """A variable that is read as a setting."""
    setting = f"`LONGHAND_{ALIASES[name].setting.upper()}`"
    return renamed(Kind.VARIABLE, name, Variable(name), f"{setting}{says and '; '}{says}")


def model(name: str, model_id: str, says: str = "") -> Name:
    """A name that the catalogue knows for a model."""
    return here(Kind.MODEL, name, ModelName(name, model_id), f"`{model_id}`{says and '; '}{says}")


def members(schema: str, *names: str) -> list[Name]:
    """Members of a schema of the OpenAPI document."""
    return [here(Kind.FIELD, name, Member(schema, name)) for name in names]


def spoken(path: str, word: str, kind: Kind = Kind.FIELD) -> Name:
    """A type, member, value or code in the messages of a WebSocket."""
    return here(kind, word, Spoken(word, path))


CORS = left_out(
    Kind.OPTION,
    "CORS for any origin",
    "any page in a browser could use an API on its machine; `LONGHAND_ALLOWED_ORIGINS` lists those "
    "that may",
)
MULTI_WORKER = renamed(
    Kind.OPTION,
    "--workers N",
    Shown(
        "tests/integration/calls/test_api_calls.py",
        "test_a_call_outlives_its_api_process_for_the_grace_and_is_found_by_another",
    ),
    "`python -m api` as often as wanted: its processes share nothing but the servers",
)
