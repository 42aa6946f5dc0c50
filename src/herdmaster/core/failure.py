"""An exception of a task's code as data, and back.

The way back runs no code but the constructors of Python's own exceptions, and makes objects of the classes that the app
has registered: nothing is imported, nothing is unpickled, and what a status says can at most choose among them.
"""

from __future__ import annotations

import builtins
import math
import traceback as traceback_module
from typing import Final, TypeGuard

import msgspec

from herdmaster.core.kept import NONE_KNOWN, Kept, Known, all_arguments, keep, rebuild
from herdmaster.errors import (
    BadPayload,
    BadSignature,
    NotSerializable,
    ResultTooLarge,
    Retry,
    SoftTimeLimitExceeded,
    TaskDied,
    TaskFailed,
    TimeLimitExceeded,
    UnknownCall,
    WrongArguments,
)

MAX_TYPE: Final = 256
MAX_MESSAGE: Final = 8 * 1024
MAX_TRACEBACK: Final = 32 * 1024
MAX_ARGS: Final = 4 * 1024
"""Limits in bytes of UTF-8. In JSON a byte may take six, and still everything fits an outcome many times over."""

STEERING: Final = (StopIteration, StopAsyncIteration)
"""They steer loops and coroutines: one that is raised in the caller's would end it without a word."""
_OURS: Final = {
    kind.__name__: kind
    for kind in (
        BadPayload, BadSignature, NotSerializable, ResultTooLarge, Retry, SoftTimeLimitExceeded, TaskDied,
        TimeLimitExceeded, UnknownCall, WrongArguments,
    )
}  # fmt: skip
"""What Herdmaster itself ends a task with."""
_OMITTED: Final = "... {} bytes left out ..."

Scalar = str | int | float | bool | None


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What remains of an exception. `type` is `module.qualname`, bare for a built-in exception. `args` are kept only
    where each is a plain str, int, finite float, bool or None, and all together are short. `kept` is there where the
    worker's app has registered the class.
    """

    type: str
    message: str = ""
    traceback: str = ""
    args: tuple[Scalar, ...] | None = None
    kept: Kept | None = None


def error_info(error: BaseException, known: Known = NONE_KNOWN) -> ErrorInfo:
    """Everything worth keeping of an exception. Never raises, whatever the exception's own methods do."""
    name = type_name(type(error))
    if known and known.get(name) is type(error):
        return ErrorInfo(name, _message(error), _traceback(error), kept=keep(error))
    return ErrorInfo(name, _message(error), _traceback(error), _arguments(error))


def rebuild_exception(info: ErrorInfo, known: Known = NONE_KNOWN) -> Exception:
    """The exception for a client: a built-in `Exception`, one that Herdmaster ends tasks with, or one of the known
    classes, as itself with `TaskFailed` as its cause; else `TaskFailed`.

    One whose arguments were not kept gets the message as its only argument.
    """
    failed = TaskFailed(info.type, info.message, info.traceback)
    registered = known.get(info.type)
    if registered is not None:
        kept = info.kept or Kept(None if info.args is None else [*info.args])
        try:
            error = rebuild(registered, info.message, kept)
        except Exception:  # noqa: BLE001 - a class that wants something else
            return failed
        error.__cause__ = failed
        return error
    kind = _OURS.get(info.type.removeprefix("herdmaster.errors.")) or getattr(builtins, info.type, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception) or issubclass(kind, STEERING):
        return failed
    try:
        rebuilt = kind(*((info.message,) if info.args is None else info.args))
    except Exception:  # noqa: BLE001 - a constructor that wants something else, such as UnicodeDecodeError
        return failed
    rebuilt.__cause__ = failed
    return rebuilt


def cut_text(text: str, limit: int) -> str:
    """Text of at most `limit` bytes of UTF-8: its first line and its end, where it was longer. Lone surrogates are
    written as escapes, since JSON cannot carry them.
    """
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    head = data[: limit // 4].partition(b"\n")[0].decode("utf-8", "ignore")
    mark = _OMITTED.format(len(data))
    room = limit - len(head.encode()) - len(mark) - 2
    if room < 1:
        return data[:limit].decode("utf-8", "ignore")
    omitted = _OMITTED.format(len(data) - len(head.encode()) - room)
    return f"{head}\n{omitted}\n{data[-room:].decode('utf-8', 'ignore')}"


def type_name(kind: type[BaseException]) -> str:
    """`module.qualname`, bare for a built-in exception. Never raises."""
    try:
        name = str(kind.__qualname__)
        full = name if getattr(builtins, name, None) is kind else f"{kind.__module__}.{name}"
        return full.encode("utf-8", "backslashreplace")[:MAX_TYPE].decode("utf-8", "ignore")
    except BaseException:  # noqa: BLE001 - a metaclass may do anything; type.__name__ itself may not
        return cut_text(type.__dict__["__name__"].__get__(kind), MAX_TYPE)


def _message(error: BaseException) -> str:
    try:
        return cut_text(str(error), MAX_MESSAGE)
    except BaseException as failure:  # noqa: BLE001 - whatever it is, it must not end the thread that reports
        return f"(its text cannot be made: __str__ raised {type_name(type(failure))})"


def _traceback(error: BaseException) -> str:
    try:
        return cut_text("".join(traceback_module.format_exception(error)), MAX_TRACEBACK)
    except BaseException as failure:  # noqa: BLE001 - as above
        return f"(the traceback cannot be made: {type_name(type(failure))})"


def _arguments(error: BaseException) -> tuple[Scalar, ...] | None:
    try:
        scalars: list[Scalar] = []
        for arg in all_arguments(error):
            if not _is_scalar(arg):
                return None
            scalars.append(arg)
        return tuple(scalars) if len(msgspec.json.encode(scalars)) <= MAX_ARGS else None
    except BaseException:  # noqa: BLE001 - as above
        return None


def _is_scalar(value: object) -> TypeGuard[Scalar]:
    # Exact types: a subclass would come back as something else.
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is int:
        return value.bit_length() <= 64
    return value is None or type(value) in (str, bool)
