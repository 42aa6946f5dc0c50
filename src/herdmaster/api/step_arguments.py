"""Arguments of steps: finds the steps among them, and checks and writes the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from herdmaster.api.callee import Callee
from herdmaster.core.codec import write_arguments
from herdmaster.errors import ConfigurationError, NotSerializable

At = tuple[str | int, ...]
"""A place in a value: the keys and positions that lead to it."""


class Found(NamedTuple):
    """A step in a value, and its place there."""

    at: At
    step: object


class Written(NamedTuple):
    """The arguments of a step as JSON, with null in place of each step."""

    args: msgspec.Raw
    kwargs: msgspec.Raw
    found: tuple[Found, ...]


def write_step(callee: Callee, args: Sequence[object], kwargs: Mapping[str, object], kind: type) -> Written:
    """Check and write the arguments of a step. Steps are the objects of class `kind`: an argument that is one, or holds
    some, is not checked against its hint. Raises NotSerializable, WrongArguments, ConfigurationError."""
    found: list[Found] = []
    plain_args = [take_out(each, kind, ("args", index), found) for index, each in enumerate(args)]
    plain_kwargs = {name: take_out(each, kind, ("kwargs", name), found) for name, each in kwargs.items()}
    unknown = {each.at[1] for each in found}
    written = write_arguments(plain_args, plain_kwargs, callee.signature, callee.codec, unknown)
    return Written(*written, tuple(found))


def take_out(value: object, kind: type, at: At, found: list[Found]) -> object:
    """Return the value with None in place of each step, and append the steps to `found`. Containers without steps stay
    as they are. Raises ConfigurationError for a step in a place that no path leads to, NotSerializable for a value that
    contains itself."""
    try:
        return _take_out(value, kind, at, found)
    except RecursionError:
        raise NotSerializable("an argument is nested too deeply, or contains itself") from None


def _take_out(value: object, kind: type, at: At, found: list[Found]) -> object:
    if isinstance(value, kind):
        found.append(Found(at, value))
        return None
    before = len(found)
    if isinstance(value, (list, tuple)):
        items = [_take_out(each, kind, (*at, index), found) for index, each in enumerate(value)]
        if len(found) == before:
            return value
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        changed: dict[object, object] = {}
        for key, each in value.items():
            _refuse_step(key, kind)
            count = len(found)
            changed[key] = _take_out(each, kind, (*at, key), found)
            if len(found) > count and not isinstance(key, str):
                raise ConfigurationError(f"a dict that holds a step needs keys that are text, not {key!r}")
        return value if len(found) == before else changed
    if isinstance(value, (set, frozenset)):
        for each in value:
            _refuse_step(each, kind)
    return value


def _refuse_step(value: object, kind: type) -> None:
    if isinstance(value, kind):
        raise ConfigurationError(
            f"{value!r} stands in a set, or as the key of a dict, before its result is known: use a list, or a value"
        )
