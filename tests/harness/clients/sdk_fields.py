"""Names in a vendor's SDK: what its requests may have, and what its answers have."""

import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from api.dialects.parameters import Operation, Presence


def arguments(function: Callable[..., Any], *, without: Collection[str] = ()) -> set[str]:
    """Return the arguments of a method of a client, without ``self`` and what only it reads."""
    return {*inspect.signature(function).parameters} - {"self", *without}


def keys(typed: Any, prefix: str = "") -> set[str]:
    """Return the keys of a ``TypedDict``, nested ones too, as ``outer.inner``."""
    hints = get_type_hints(typed)
    inner = {
        name
        for key, hint in hints.items()
        for nested in _types_in(hint)
        if hasattr(nested, "__required_keys__")
        for name in keys(nested, f"{prefix}{key}.")
    }
    return {prefix + key for key in hints} | inner


def members(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Return the members of a model that have no members themselves, as ``segments[].start``."""
    found = set()
    for name, field in model.model_fields.items():
        hint = field.annotation
        nested = [each for each in _types_in(hint) if _is_model(each)]
        for each in nested:
            mark = "[]" if _is_list(hint) else ""
            found |= members(each, f"{prefix}{name}{mark}.")
        if not nested:
            found.add(prefix + name)
    return found


def unknown_parameters(names: Collection[str], operation: Operation) -> set[str]:
    """Return the names that an operation's table lacks."""
    return {*names} - {parameter.name for parameter in operation.takes}


def unknown_members(names: Collection[str], operation: Operation) -> set[str]:
    """Return the members of an answer that an operation's table lacks.

    What is within a member that is left out needs no row.
    """
    known = {member.name for member in operation.answers}
    left_out = {each.name for each in operation.answers if each.presence is Presence.LEFT_OUT}
    within = tuple(f"{name}{mark}." for name in left_out for mark in ("", "[]"))
    return {name for name in {*names} - known if not name.startswith(within)}


def _types_in(hint: Any) -> Iterator[Any]:
    inner = get_args(hint)
    if not inner:
        yield hint
    for each in inner:
        yield from _types_in(each)


def _is_list(hint: Any) -> bool:
    return get_origin(hint) is list or any(map(_is_list, get_args(hint)))


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)
