"""What a type hint makes of a value on its way through JSON.

A hint that nothing can hold a value against (a class that is neither a dataclass, attrs class, Pydantic model nor
`msgspec.Struct`, a union of two such, a name that cannot be resolved) is no hint: the value stays as JSON gave it.
"""

from __future__ import annotations

import datetime
import decimal
import pathlib
import uuid
from typing import Any, Final

import msgspec
from msgspec import inspect as types

from herdmaster.core.fields import unknown_key
from herdmaster.core.models import is_model, load_model
from herdmaster.core.values import plain_form

_NATIVE: Final = (
    bytes,
    bytearray,
    memoryview,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
    decimal.Decimal,
)
"""Left as they are for a check: text in their place, which JSON makes of them, is another type."""
_SCALARS: Final = (bool, int, float, str)
_PLAIN: Final = (str, list, dict)
"""An abstract class that one of these is of, such as Iterable, is a hint that is not looked into."""
_CODE: Final = (types.StructType, types.DataclassType, types.NamedTupleType, types.EnumType, types.CustomType)
_WITH_FIELDS: Final = (types.StructType, types.DataclassType, types.TypedDictType)


class Misfit(ValueError):
    """A value that does not fit its hint; the text is msgspec's."""


class Hint:
    """One hint that msgspec understands. `runs_code`: converting may run code of the user's own, such as a
    `__post_init__`."""

    __slots__ = ("_exact", "_has_fields", "_type", "runs_code")

    def __init__(self, hint: object, runs_code: bool, has_fields: bool) -> None:
        self._type: Any = hint
        self._has_fields = has_fields
        self._exact = next((kind for kind in _SCALARS if hint is kind), None)
        self.runs_code = runs_code

    def check(self, value: object) -> None:
        """Raises Misfit for a value that JSON can carry and that is not of this type. Accepted is what comes out right
        on the other side, so also an int for a float, a tuple for a list, text for a Path or for an enum's value."""
        if type(value) is self._exact:
            return
        try:
            found = msgspec.to_builtins(value, builtin_types=_NATIVE, enc_hook=plain_form)
            made = msgspec.convert(found, self._type, builtin_types=_NATIVE, dec_hook=_convert_custom)
        except Exception as error:  # noqa: BLE001 - it runs code of the user's classes
            raise Misfit(_text(error)) from None
        if self._has_fields and not isinstance(value, _SCALARS):
            unknown = unknown_key(value, made)
            if unknown is not None:
                raise Misfit(unknown)

    def convert(self, value: object) -> object:
        """The value that a plain one from JSON stands for. Raises Misfit."""
        if type(value) is self._exact:
            return value
        try:
            return msgspec.convert(value, self._type, str_keys=True, dec_hook=_convert_custom)
        except Exception as error:  # noqa: BLE001 - as above
            raise Misfit(_text(error)) from None


def usable_hint(hint: object) -> Hint | None:
    """None where values of that hint stay as they are."""
    if hint is Any or hint is object:
        return None
    try:
        kinds = _kinds(types.type_info(hint))
    except Exception:  # noqa: BLE001 - whatever is wrong with a hint, the function can be called without it
        return None
    if kinds is None:
        return None
    return Hint(
        hint,
        runs_code=any(issubclass(kind, _CODE) for kind in kinds),
        has_fields=any(issubclass(kind, _WITH_FIELDS) for kind in kinds),
    )


def _kinds(hint: types.Type) -> set[type[types.Type]] | None:
    """The kinds of types that it is made of; None if one of them cannot be held against a value."""
    seen: dict[int, types.Type] = {}
    pending: list[object] = [hint]
    while pending:
        found = pending.pop()
        if isinstance(found, tuple):
            pending.extend(found)
        elif isinstance(found, types.Field):
            pending.append(found.type)
        elif isinstance(found, types.Type) and id(found) not in seen:
            if not _is_usable(found):
                return None
            seen[id(found)] = found
            pending.extend(getattr(found, name) for name in found.__struct_fields__)
    return {type(each) for each in seen.values()}


def _is_usable(found: types.Type) -> bool:
    if isinstance(found, types.CustomType):
        is_known = issubclass(found.cls, pathlib.PurePath) or is_model(found.cls)
        return is_known or any(issubclass(plain, found.cls) for plain in _PLAIN)
    if isinstance(found, types.DictType):  # msgspec does not ask `_convert_custom` about keys
        return not isinstance(found.key_type, types.CustomType) or found.key_type.cls is object
    return not isinstance(found, (types.RawType, types.ExtType))


def _convert_custom(kind: object, value: object) -> object:
    # `typing.Iterable`, other than that of `collections.abc`, is no class.
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath) and isinstance(value, str):
        return kind(value)
    if is_model(kind):
        return load_model(kind, value)
    return value  # msgspec says if it is of that kind


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, msgspec.ValidationError) else f"{type(error).__name__}: {error}"
