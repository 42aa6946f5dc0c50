"""What becomes of errors: of the task's code, of its result, and of functions that cannot be tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from herdmaster import (
    ConfigurationError,
    Herd,
    NotSerializable,
    ResultTooLarge,
    TaskFailed,
    UnknownCall,
    WrongArguments,
)
from tests.api import tasks
from tests.api.tasks import App


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        (KeyError, ("a",)),
        (ValueError, ("wrong", 7)),
        (OSError, (2, "No such file", "/nowhere")),
        (TimeoutError, ()),
    ],
)
def test_a_built_in_exception_comes_back_as_itself_with_the_failure_as_its_cause(
    app: App, kind: type[Exception], args: tuple[str | int, ...]
) -> None:
    with pytest.raises(kind) as caught:
        app.fail.submit("OSError" if kind is OSError else kind.__name__, *args).result(10)

    expected = tasks.raised_by(tasks.fail, "OSError" if kind is OSError else kind.__name__, *args)
    assert type(caught.value) is type(expected)
    assert caught.value.args == expected.args
    assert str(caught.value) == str(expected)
    cause = caught.value.__cause__
    assert isinstance(cause, TaskFailed)
    assert cause.type == type(expected).__name__
    assert cause.message == str(expected)
    assert "in fail\n    raise errors[kind](*args)" in cause.traceback


def test_an_exception_of_the_users_own_comes_back_as_task_failed(app: App) -> None:
    with pytest.raises(TaskFailed) as caught:
        app.fail.submit("Broken", "it is broken").result(10)

    assert caught.value.type == "tests.api.tasks.Broken"
    assert caught.value.message == "it is broken"
    assert "in fail\n" in caught.value.traceback
    assert str(caught.value) == "tests.api.tasks.Broken: it is broken"


async def test_errors_are_raised_by_awaiting_too(app: App) -> None:
    with pytest.raises(KeyError, match="a") as caught:
        await (await app.fail.submit_async("KeyError", "a"))
    assert isinstance(caught.value.__cause__, TaskFailed)
    with pytest.raises(TaskFailed, match="broken"):
        await (await app.fail.submit_async("Broken", "broken"))


def test_exception_gives_it_without_raising(app: App) -> None:
    future = app.fail.submit("KeyError", "a")

    assert isinstance(future.exception(10), KeyError)
    assert future.exception() is future.exception()


def test_an_exception_that_steers_loops_comes_back_as_task_failed(app: App) -> None:
    with pytest.raises(TaskFailed, match="StopIteration"):
        app.fail.submit("StopIteration").result(10)


def test_a_task_that_exits_fails_and_its_worker_goes_on(app: App) -> None:
    with pytest.raises(TaskFailed) as caught:
        app.leave.submit(3).result(10)
    assert (caught.value.type, caught.value.message) == ("SystemExit", "3")
    assert app.add.submit(2, 3).result(10) == 5


def test_nothing_is_imported_because_an_outcome_names_it(result_of: Callable[[bytes], object]) -> None:
    forged = b'{"herd":1,"state":"failed","error":{"type":"antigravity.Error","message":"m","traceback":"t"}}'

    with pytest.raises(TaskFailed, match="antigravity"):
        result_of(forged)
    assert "antigravity" not in sys.modules


def test_what_is_no_exception_is_not_called_because_an_outcome_names_it(
    result_of: Callable[[bytes], object],
) -> None:
    for name in ("exec", "print", "SystemExit", "type"):
        forged = b'{"herd":1,"state":"failed","error":{"type":"%s","message":"m","args":["1/0"]}}' % name.encode()
        with pytest.raises(TaskFailed, match=f"^{name}: m$"):
            result_of(forged)


@pytest.mark.parametrize(
    ("what", "kind", "says"),
    [
        ("object", NotSerializable, r"the result \(a object\) cannot be written as JSON"),
        ("nan", NotSerializable, "no NaN and no infinity"),
        ("cyclic", NotSerializable, "contains itself"),
        ("large", ResultTooLarge, "store the result elsewhere and return its address"),
    ],
)
def test_a_result_that_cannot_be_sent_back_fails_the_task_and_says_what_to_do(
    app: App, what: str, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught:
        app.give.submit(what).result(20)
    assert isinstance(caught.value.__cause__, TaskFailed)


@pytest.mark.long
def test_a_call_that_no_worker_has_says_where_it_is_missing(app: App) -> None:
    with pytest.raises(UnknownCall, match="Deploy the app that defines it"):
        app.herd.submit_call("shop.tasks:resize", ["a.png"]).result(50)


@pytest.mark.long
def test_wrong_arguments_of_a_function_that_only_the_worker_knows_fail_the_task(
    served: str, make_herd: Callable[..., Herd]
) -> None:
    with pytest.raises(WrongArguments, match=r"tests\.api\.tasks:add takes no argument `z`"):
        make_herd(served).submit_call("tests.api.tasks:add", [1], {"z": 2}).result(10)


# --- what cannot be a Herd --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["session_timeout", "submit_timeout", "connect_timeout"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "10"])
def test_times_have_to_be_seconds(setting: str, value: float) -> None:
    settings = {setting: value}
    with pytest.raises(ConfigurationError, match=rf"{setting}=.*a number of seconds, above 0"):
        Herd("localhost:1", **settings)  # type: ignore[arg-type]  # none of them is the codec
