"""Exceptions as data, and back."""

from __future__ import annotations

import builtins
import math
import pickle
from typing import NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.failure import (
    MAX_MESSAGE,
    MAX_TRACEBACK,
    MAX_TYPE,
    ErrorInfo,
    cut_text,
    error_info,
    rebuild_exception,
)
from herdmaster.core.retry import refused
from herdmaster.errors import (
    HerdError,
    ResultTooLarge,
    Retry,
    SoftTimeLimitExceeded,
    SubmissionUnknown,
    TaskDied,
    TaskFailed,
    TimeLimitExceeded,
    UnknownCall,
)


class ShopClosed(Exception):
    pass


def raised(error: BaseException) -> BaseException:
    def fail() -> NoReturn:
        raise error

    try:
        fail()
    except BaseException as caught:  # noqa: BLE001 - any kind may be given
        return caught


def across(error: BaseException) -> Exception:
    """As a client sees what a worker reports, through the bytes of JSON."""
    return rebuild_exception(msgspec.json.decode(msgspec.json.encode(error_info(error)), type=ErrorInfo))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("key"),
        KeyError(3),
        ZeroDivisionError(),
        RuntimeError("a", 1, 2.5, True, None),
        FileNotFoundError(2, "No such file", "/tmp/x"),
        OSError(18, "Cross-device link", "/a", None, "/b"),
        TimeoutError("late"),
        NotImplementedError(),
        UserWarning("w"),
    ],
    ids=repr,
)
def test_a_built_in_exception_comes_back_as_itself(error: Exception) -> None:
    found = across(raised(error))
    assert type(found) is type(error)
    assert found.args == error.args
    assert str(found) == str(error)
    cause = found.__cause__
    assert isinstance(cause, TaskFailed)
    assert (cause.type, cause.message) == (type(error).__name__, str(error))
    assert cause.traceback.startswith("Traceback (most recent call last):\n")


def test_the_users_own_exception_comes_back_as_task_failed() -> None:
    found = across(raised(ShopClosed("at night")))
    assert isinstance(found, TaskFailed)
    assert found.type.endswith("test_failure.ShopClosed")
    assert str(found) == f"{found.type}: at night"
    assert "raise error" in found.traceback


def test_a_built_in_exception_whose_arguments_are_not_kept_has_its_message() -> None:
    found = across(ValueError(["a"], object))
    assert type(found) is ValueError
    assert "['a']" in found.args[0]


@pytest.mark.parametrize(
    "error",
    [
        StopIteration(1),
        StopAsyncIteration(),
        GeneratorExit(),
        KeyboardInterrupt(),
        SystemExit(3),
        BaseException("x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ExceptionGroup("many", [ValueError("x")]),
        BaseExceptionGroup("many", [KeyboardInterrupt()]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_would_steer_the_caller_or_cannot_be_made_comes_back_as_task_failed(error: BaseException) -> None:
    found = across(error)
    assert type(found) is TaskFailed
    assert found.type == type(error).__name__


@pytest.mark.parametrize(
    "name", ["eval", "print", "int", "object", "type", "__import__", "os.system", "builtins.ValueError", ""]
)
def test_a_type_that_is_no_built_in_exception_calls_nothing(name: str) -> None:
    assert type(rebuild_exception(ErrorInfo(name, "1/0", args=("1/0",)))) is TaskFailed


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.sampled_from(dir(builtins)), st.text(), st.none() | st.lists(scalars, max_size=6).map(tuple))
def test_rebuilding_gives_an_exception_whatever_a_status_says(
    name: str, message: str, args: tuple[str | int | float | bool | None, ...] | None
) -> None:
    found = rebuild_exception(ErrorInfo(name, message, "", args))
    assert isinstance(found, Exception)
    assert not isinstance(found, (StopIteration, StopAsyncIteration))


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit("from __str__")

    __repr__ = __str__


class Liar(Exception):
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]  # noqa: PLE0307 - what a hostile class does


class NoArgs(Exception):
    args = property(lambda self: 1 / 0)


class Endless(Exception):
    def __str__(self) -> str:
        return str(self)


@pytest.mark.parametrize(("kind", "name"), [(Mute, "Mute"), (Liar, "Liar"), (NoArgs, "NoArgs"), (Endless, "Endless")])
def test_an_exception_whose_own_methods_fail_is_still_reported(kind: type[Exception], name: str) -> None:
    info = error_info(raised(kind("x")))
    assert name in info.type
    assert msgspec.json.decode(msgspec.json.encode(info), type=ErrorInfo) == info
    assert type(across(raised(kind("x")))) is TaskFailed


@given(
    st.lists(scalars | st.binary() | st.floats() | st.tuples(st.text(st.characters())), max_size=4),
    st.text(st.characters()),
)
def test_error_info_never_raises_and_is_always_json(args: list[object], note: str) -> None:
    error = raised(ValueError(*args))
    error.add_note(note)
    info = error_info(error)
    assert msgspec.json.decode(msgspec.json.encode(info), type=ErrorInfo) == info


def test_the_worst_exception_stays_far_below_an_outcomes_limit() -> None:
    kind = type("\x01" * 100_000, (Exception,), {})
    error = raised(kind("\x01" * 200_000, "\x02" * 4000))
    assert len(msgspec.json.encode(error_info(error))) < 300_000


def test_long_texts_are_cut_to_their_limits() -> None:
    info = error_info(raised(ValueError("é" * 100_000)))
    assert len(info.message.encode()) <= MAX_MESSAGE
    assert len(info.traceback.encode()) <= MAX_TRACEBACK
    assert info.traceback.startswith("Traceback (most recent call last):\n")
    assert info.args is None
    assert len(error_info(type("X" * 1000, (Exception,), {})()).type) <= MAX_TYPE


def test_a_long_traceback_keeps_its_first_line_and_its_end() -> None:
    text = "head\n" + "middle\n" * 10_000 + "ValueError: the end"
    cut = cut_text(text, 1000)
    lines = cut.split("\n")
    assert lines[0] == "head"
    assert lines[1].endswith("bytes left out ...")
    assert lines[-1] == "ValueError: the end"


@given(st.text(st.characters()), st.integers(1, 200))
def test_cut_text_never_exceeds_its_limit_and_is_always_utf_8(text: str, limit: int) -> None:
    cut = cut_text(text, limit)
    assert len(cut.encode("utf-8")) <= limit
    escaped = text.encode("utf-8", "backslashreplace")
    if len(escaped) <= limit:
        assert cut.encode() == escaped


def test_floats_that_json_has_not_are_no_arguments() -> None:
    assert error_info(ValueError(math.nan)).args is None
    assert error_info(ValueError(10**100)).args is None


def test_our_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(TaskFailed("ValueError", "no", "Traceback")))
    assert (error.type, error.message, error.traceback) == ("ValueError", "no", "Traceback")
    assert pickle.loads(pickle.dumps(SubmissionUnknown(["task-1", "task-2"]))).names == ("task-1", "task-2")


@pytest.mark.parametrize(
    "error",
    [TimeLimitExceeded("after 5 s"), SoftTimeLimitExceeded("x"), TaskDied("by SIGKILL"), UnknownCall("f"), Retry("x")],
)
def test_what_herdmaster_ends_a_task_with_comes_back_as_itself(error: HerdError) -> None:
    for name in (type(error).__name__, f"herdmaster.errors.{type(error).__name__}"):
        found = rebuild_exception(ErrorInfo(name, str(error)))
        assert type(found) is type(error)
        assert str(found) == str(error)
        assert isinstance(found.__cause__, TaskFailed)


def test_a_result_that_was_too_large_says_so_to_the_client() -> None:
    found = rebuild_exception(refused(ResultTooLarge(7, 5)).error)
    assert isinstance(found, ResultTooLarge)
    assert (found.size, found.limit) == (7, 5)
