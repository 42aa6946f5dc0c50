"""What turns arguments and results into bytes where JSON will not do.

A codec's bytes stand as base64 text in the JSON of the envelope, and beside them the codec's name: every program but
the two ends handles such a task as any other. An end decodes only with the codecs that its own app was given, not with
those that a payload names.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol

import msgspec

from herdmaster.core.inputs import WHOLE, At, OpenSpool, Spooled, StepResult, insert, insert_missing, put
from herdmaster.core.lazy_results import LazyResults
from herdmaster.core.outcome import Outcome, decode_result, encode_result
from herdmaster.core.payload import Call, decode_arguments, encode_arguments
from herdmaster.core.signature import Signature
from herdmaster.core.values import UNREADABLE, from_json, to_json
from herdmaster.errors import BadOutcome, BadPayload, NotSerializable


def no_spool(step: str, _spooled: Spooled) -> Sequence[StepResult | None]:
    """Refuse results in a file. Raises BadPayload."""
    raise BadPayload(f"the results of step {step} are in a file, and cannot be read here")


class Codec(Protocol):
    """A format for arguments and results. `encode` may raise anything for a value that it cannot carry, `decode` for
    bytes that it did not make. Both run on any thread."""

    @property
    def name(self) -> str:
        """The name of the format, by which both ends know it."""

    def encode(self, value: object, /) -> bytes:
        """Return the bytes of a value."""
        ...

    def decode(self, data: bytes, /) -> object:
        """Return the value of bytes."""
        ...


Codecs = Mapping[str, Codec]
"""Those that an app was given, by their names."""


def write_arguments(
    args: Sequence[object],
    kwargs: Mapping[str, object],
    signature: Signature | None,
    codec: Codec | None,
    unknown: Collection[int | str] = (),
) -> tuple[msgspec.Raw, msgspec.Raw]:
    """`Call.args` and `Call.kwargs`. Without a signature nothing is checked; values under a codec never are, nor those
    at positions and names in `unknown`.

    Raises NotSerializable, WrongArguments.
    """
    if codec is None:
        written = encode_arguments(args, kwargs)  # first: what cannot be sent at all needs no check
        if signature is not None:
            signature.check_arguments(args, kwargs, unknown)
        return written
    if signature is not None:
        signature.check_names(args, kwargs)
    return encode_arguments((_encode(codec, (tuple(args), dict(kwargs)), "the arguments"),), {})


def write_value(value: object, what: str, codec: Codec | None) -> msgspec.Raw:
    """One value as JSON. Raises NotSerializable, with `what` as its name."""
    return msgspec.Raw(to_json(value if codec is None else _encode(codec, value, what), what))


def read_arguments(
    call: Call, signature: Signature | None, codecs: Codecs, open_spool: OpenSpool = no_spool
) -> tuple[list[object], dict[str, object]]:
    """What the function of a call, which is no chunk, is to be called with. `open_spool` gives results that are in a
    file. Runs code of the user's: its codec, and the
    classes that hints name.

    Raises BadPayload, WrongArguments.
    """
    args, kwargs = decode_arguments(call)
    if call.codec is not None:
        args, kwargs = _read_pair(call.codec, args, codecs)
    if call.inputs:
        return _with_inputs(call, args, kwargs, signature, codecs, open_spool=open_spool)
    if signature is None:
        return args, kwargs
    if call.codec is None:
        return signature.convert_arguments(args, kwargs)
    signature.check_names(args, kwargs)
    return args, kwargs


def _read_pair(name: str, args: list[object], codecs: Codecs) -> tuple[list[object], dict[str, object]]:
    codec = codecs.get(name)
    if codec is None:
        raise BadPayload(f"the arguments are written with {_unknown(name, codecs)}")
    try:
        return _pair(_decode(codec, args[0]))
    except Exception as error:  # noqa: BLE001 - the codec is the user's
        raise BadPayload(f"the codec {codec.name} cannot read the arguments: {_reason(error)}") from None


def _with_inputs(
    call: Call,
    args: list[object],
    kwargs: dict[str, object],
    signature: Signature | None,
    codecs: Codecs,
    *,
    open_spool: OpenSpool,
) -> tuple[list[object], dict[str, object]]:
    """Put the inputs of a step into its arguments. What is plain JSON is converted by the hints. What a codec has read
    is not, nor the None of a parent that is missing."""
    lazy: set[str | int] = set()
    for each in call.inputs:
        read = partial(read_input, each.step, codecs)
        if is_lazy(each.is_list, each.at, signature):
            assert signature is not None
            lazy.add(each.at[1])
            results = each.results if each.spooled is None else open_spool(each.step, each.spooled)
            put(args, kwargs, each, LazyResults(results, partial(_read_element, signature, each.at[1], read)))
        else:
            insert(args, kwargs, each, read)
    if signature is not None:
        as_is = lazy | {each.at[1] for each in call.inputs if not each.is_plain or each.is_missing}
        if call.codec is not None:
            whole = {each.at[1] for each in call.inputs if each.is_whole_argument}
            as_is |= {*range(len(args)), *kwargs} - (whole - lazy)
        args, kwargs = signature.convert_arguments(args, kwargs, as_is)
    for each in call.inputs:
        insert_missing(args, kwargs, each)
    return args, kwargs


def is_lazy(is_each: bool, at: At, signature: Signature | None) -> bool:
    """Return whether the results of an `each` that go there are read one by one: they are a whole argument, and its
    hint asks for no list."""
    return is_each and signature is not None and len(at) == WHOLE and signature.takes_sequence(at[1])


def _read_element(
    signature: Signature, key: int | str, read: Callable[[StepResult], object], result: StepResult
) -> object:
    value = read(result)
    return value if result.codec is not None else signature.convert_element(key, value)


def read_input(step: str, codecs: Codecs, result: StepResult) -> object:
    """Return the plain value of a parent's result, or what its codec makes of it. Raises BadPayload."""
    try:
        value = from_json(result.data)
    except UNREADABLE as error:
        raise BadPayload(f"the result of step {step} is not JSON that can be read: {error}") from None
    if result.codec is None:
        return value
    try:
        return _read_encoded(value, result.codec, codecs)
    except BadOutcome as error:
        raise BadPayload(f"step {step}: {error}") from None


def write_result(value: object, call: Call, codecs: Codecs) -> msgspec.Raw:
    """A result as `Outcome.result`, where `Outcome.codec` is to be `Call.codec`. Raises NotSerializable, and BadPayload
    for a codec that the app does not have."""
    if call.codec is None:
        return encode_result(value)
    codec = codecs.get(call.codec)
    if codec is None:
        raise BadPayload(f"the result is wanted in {_unknown(call.codec, codecs)}")
    return encode_result(_encode(codec, value, f"the result (a {type(value).__qualname__})"))


def read_result(outcome: Outcome, signature: Signature | None, codecs: Codecs) -> object:
    """The result of a task that is done and no chunk. Runs code of the user's, as `read_arguments` does.

    Raises BadOutcome; `hints.Misfit` for a result that is not what the function's hint says, which is no fault of its
    caller's: `decode_result` has the plain one.
    """
    if outcome.codec is None:
        value = decode_result(outcome)
        return value if signature is None or outcome.result is None else signature.convert_result(value)
    return _read_encoded(decode_result(outcome), outcome.codec, codecs)


def read_item(result: msgspec.Raw, codec: str | None, signature: Signature | None, codecs: Codecs) -> object:
    """As `read_result`, the result of one item of a chunk whose outcome has that codec."""
    try:
        value = from_json(result)
    except UNREADABLE as error:
        raise BadOutcome(f"the result of an item is not JSON that can be read: {error}") from None
    if codec is not None:
        return _read_encoded(value, codec, codecs)
    return value if signature is None else signature.convert_result(value)


def _read_encoded(text: object, name: str, codecs: Codecs) -> object:
    codec = codecs.get(name)
    if codec is None:
        raise BadOutcome(f"the result is written with {_unknown(name, codecs)}")
    try:
        return _decode(codec, text)
    except Exception as error:  # noqa: BLE001 - the codec is the user's
        raise BadOutcome(f"the codec {name} cannot read the result: {_reason(error)}") from None


def _encode(codec: Codec, value: object, what: str) -> str:
    try:
        return base64.b64encode(codec.encode(value)).decode()
    except Exception as error:  # noqa: BLE001 - the codec is the user's
        raise NotSerializable(f"{what} cannot be written by the codec {codec.name}: {_reason(error)}") from None


def _decode(codec: Codec, text: object) -> object:
    if not isinstance(text, str):
        raise TypeError("there is no text")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"the text is not base64: {error}") from None
    return codec.decode(data)


def _pair(value: object) -> tuple[list[object], dict[str, object]]:
    match value:
        case (tuple() | list() as args, dict() as kwargs):
            return list(args), kwargs
    raise TypeError("they are not what this version writes")


def _unknown(name: str, codecs: Codecs) -> str:
    known = ", ".join(sorted(codecs)) or "none"
    return f"the codec {name!r}, which this app was not given; it has {known}: make it as Herd(codec=...)"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
