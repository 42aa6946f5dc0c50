"""An exception of a class that the app has registered: what is kept of it in JSON, and the exception made of that.

The class is looked up by its name among those that are registered here: nothing is imported because data says so. Its
`__init__` is not called, because it need not take what `args` holds: a common failure of unpickling.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Final

import msgspec

from herdmaster.core.hints import Hint, Misfit, usable_hint
from herdmaster.core.values import from_json, to_json
from herdmaster.errors import NotSerializable

MAX_KEPT: Final = 4 * 1024
"""Bytes of JSON, arguments and attributes together."""

Known = Mapping[str, type[Exception]]
"""Registered classes by their names as `ErrorInfo.type` has them."""
NONE_KNOWN: Final[Known] = {}


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """`args` is None where one of them had no form in JSON, or all were too large."""

    args: list[object] | None = None
    attributes: dict[str, msgspec.Raw] = {}


def keep(error: BaseException) -> Kept | None:
    """The arguments and attributes that JSON can carry, as far as there is room. Never raises."""
    try:
        room = MAX_KEPT
        args: list[object] | None = None
        data = _json(all_arguments(error))
        if data is not None and len(data) <= room:
            args = [*msgspec.json.decode(data, type=list[object])]
            room -= len(data)
        attributes: dict[str, msgspec.Raw] = {}
        for name, value in vars(error).items():
            data = _json(value)
            size = room + 1 if data is None else len(data) + len(_json(name) or b"") + 2
            if data is not None and size <= room:
                attributes[name] = msgspec.Raw(data)
                room -= size
        return Kept(args, attributes)
    except BaseException:  # noqa: BLE001 - the user's class may raise anything, which must not end the thread that reports
        return None


def rebuild(kind: type[Exception], message: str, kept: Kept) -> Exception:
    """Raises what the class itself raises."""
    args = [message] if kept.args is None else kept.args
    error = kind.__new__(kind, *args)
    built_in = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    built_in.__init__(error, *args)  # type: ignore[misc]  # of that class, not of the user's below it
    hints = _hints(kind)
    for name, data in kept.attributes.items():
        error.__dict__[name] = _convert(hints.get(name), from_json(data))
    return error


def all_arguments(error: BaseException) -> list[object]:
    """Those to make the exception of anew."""
    args = list(error.args)
    if isinstance(error, OSError) and len(args) == 2 and error.filename is not None:
        # OSError takes the file names out of its args; given as arguments 3 and 5 they come back.
        args += [error.filename] if error.filename2 is None else [error.filename, None, error.filename2]
    return args


def _json(value: object) -> bytes | None:
    try:
        return to_json(value, "")
    except NotSerializable:
        return None


def _convert(hint: Hint | None, value: object) -> object:
    try:
        return value if hint is None else hint.convert(value)
    except Misfit:
        return value


def _hints(kind: type[Exception]) -> dict[str, Hint]:
    """Of the attributes that the class annotates."""
    try:
        found = typing.get_type_hints(kind)
    except Exception:  # noqa: BLE001 - annotations may be anything
        return {}
    return {name: hint for name, each in found.items() if (hint := usable_hint(each)) is not None}
