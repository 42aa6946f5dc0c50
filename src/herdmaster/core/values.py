"""What a task's arguments and result may be, and what JSON makes of them.

Unchanged: None, bool, int (of any size up to 4,300 digits), finite float, str, list, dict with str keys.
Changed, and it is the same change each time, so a task may rely on it:

- tuple, set, frozenset, named tuple -> list (a set in no particular order)
- bytes, bytearray, memoryview -> base64 text
- datetime, date, time -> ISO 8601 text; timedelta -> ISO 8601 duration; Decimal, UUID -> text
- Path -> text
- enum member -> its value; dataclass, attrs object, msgspec.Struct, Pydantic model -> dict of its fields
- a subclass of str, int or float -> the plain value; a subclass of list or dict -> the plain list or dict
- dict keys that are not text (int, float, enum, date, UUID, bytes) -> text

Where the function that takes an argument says by a type hint what it was, the worker makes it that again; so does the
client with a result (see `herdmaster.core.hints`).

Refused, because JSON would have to invent something: NaN and infinities (they would arrive as None), text with lone
surrogates, keys of one dict that become the same text, whatever is not above, and nesting deeper than Python's
recursion limit. A `msgspec.Raw` is taken for JSON as it stands and not examined.
"""

from __future__ import annotations

import math
import pathlib
from typing import Final

import msgspec

from herdmaster.core.models import dump_model, is_model
from herdmaster.errors import NotSerializable

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What the decoder raises for bytes that are not the JSON it was asked for. In msgspec 0.19 its own errors are no
ValueErrors; text that is not UTF-8 raises UnicodeDecodeError.
"""


def plain_form(value: object) -> object:
    """What msgspec is to take in place of a value of a type that it does not know. Raises TypeError."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, pathlib.PurePath):
        return str(value)
    kind = type(value)
    if is_model(kind):
        return dump_model(value)
    raise TypeError(f"objects of type {type_text(kind)} have no form in JSON: {_instead(kind)}")


_TEXT: Final = frozenset({str})
_SIMPLE: Final = (str, int, float, bool, type(None), bytes)
_SIMPLE_KINDS: Final = frozenset(_SIMPLE)

_encoder = msgspec.json.Encoder(enc_hook=plain_form)
_decoder = msgspec.json.Decoder()


def to_json(value: object, what: str) -> bytes:
    """The JSON of a value; `what` begins the text of `NotSerializable` ("argument 2", "the result")."""
    try:
        data = _encoder.encode(value)
        # NaN and infinities become `null` without a word; only where there is one, is it worth a walk.
        finite = b"null" not in data or _is_finite(value)
        doubled = doubled_key(value) if b"{" in data else None
    except Exception as error:  # noqa: BLE001 - the encoder runs code of the caller's own classes
        raise NotSerializable(f"{what} cannot be written as JSON: {_reason(error)}") from None
    if not finite:
        raise NotSerializable(f"{what} cannot be written as JSON, which has no NaN and no infinity")
    if doubled is not None:
        raise NotSerializable(
            f"{what} cannot be written as JSON: keys of a dict become text, and two of this one are both {doubled!r}"
        )
    return data


def from_json(data: bytes | msgspec.Raw) -> object:
    """The value of JSON text. Raises one of `UNREADABLE`."""
    return _decoder.decode(data)


def type_text(kind: type) -> str:
    """`module.qualname`, bare for built-in ones."""
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def _instead(kind: type) -> str:
    package = kind.__module__.partition(".")[0]
    if package == "numpy":
        plain = "tolist()" if kind.__name__ == "ndarray" else "item()"
        return f"give value.{plain}, or use a codec, as in Herd(codec=CloudpickleCodec())"
    if package == "herdmaster" and kind.__name__ in {"Future", "FlowFuture"}:
        return "pass future.name, and use herd.future(name) where it is wanted"
    if package == "herdmaster" and kind.__name__ == "Step":
        return "only another step gets the result of a step, as in `merge.step(sizes)`"
    return "give it as what has one, or use a codec, as in Herd(codec=CloudpickleCodec())"


def doubled_key(value: object) -> str | None:
    """The text that two keys of one dict in it become."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if not _TEXT.issuperset(map(type, item)):
                texts: set[object] = set()
                for key in item:
                    (text,) = msgspec.to_builtins({key: None}, str_keys=True, enc_hook=plain_form)
                    if text in texts:
                        return str(text)
                    texts.add(text)
            if not _SIMPLE_KINDS.issuperset(map(type, item.values())):
                pending += item.values()
        elif isinstance(item, (list, tuple, set, frozenset)):
            if not _SIMPLE_KINDS.issuperset(map(type, item)):
                pending += item
        elif not isinstance(item, (*_SIMPLE, msgspec.Raw)):
            plain = msgspec.to_builtins(item, enc_hook=plain_form)  # an object's fields
            if isinstance(plain, (dict, list)):
                pending.append(plain)
    return None


def _is_finite(value: object) -> bool:
    pending = [msgspec.to_builtins(value, enc_hook=plain_form)]
    while pending:
        item = pending.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return False
        elif isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            pending.extend(item)
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or contains itself"
    return f"{type(error).__name__}: {error}"
