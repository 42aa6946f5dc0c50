from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from herdmaster.core.payload import decode_call
from herdmaster.core.retry import Raised
from herdmaster.core.run import Expired, Returned, Run
from herdmaster.errors import Retry
from herdmaster.pools.limits import NotStarted
from herdmaster.running.delivery import Delivered
from herdmaster.running.execution import Executor, RawHandler
from herdmaster.running.program import Program
from herdmaster.running.registration import Function
from tests.roles.stage import call_payload, new_call_name, new_raw_name


class Clock:
    def __init__(self) -> None:
        self.now = 1000

    def __call__(self) -> int:
        self.now += 7
        return self.now


def no_raw(_name: str, _data: bytes) -> None:
    raise AssertionError("no raw task")


def executor(raw: RawHandler = no_raw, *, may_start: bool = True, now_ms: Callable[[], int] = lambda: 0) -> Executor:
    return Executor(raw, lambda: may_start, now_ms, unix_ms=Clock())


def delivered(function: Function, *args: object, expires: int | None = None) -> Delivered:
    payload = call_payload("m:f", *args)
    call = msgspec.structs.replace(decode_call(payload), expires=expires)
    return Delivered(new_call_name(), payload, 1, call, Program({"m:f": function}).find("m:f"))


def run(function: Function, *args: object) -> Run:
    found = executor().run(delivered(function, *args))
    assert isinstance(found, Run)
    return found


def failure(function: Function, *args: object) -> Raised:
    ending = run(function, *args).ending
    assert isinstance(ending, Raised)
    return ending


def test_a_call_gives_its_result_and_times() -> None:
    assert run(lambda a, b: a + b, 2, 3) == Run(Returned(msgspec.Raw(b"5")), 1007, 1014)


def test_nothing_is_started_when_the_session_may_be_over() -> None:
    ran: list[int] = []

    assert executor(may_start=False).run(delivered(lambda: ran.append(1))) == NotStarted()
    assert ran == []


def test_a_task_expires_at_its_turn_by_the_servers_time_and_is_not_run() -> None:
    ran: list[int] = []
    task = delivered(lambda: ran.append(1), expires=5000)

    assert executor(now_ms=lambda: 5000).run(task) == Run(Expired(), 1007, 1007)
    assert ran == []
    executor(now_ms=lambda: 4999).run(task)
    assert ran == [1]


def test_a_retry_never_expires() -> None:
    task = delivered(lambda: None, expires=5000)
    assert task.call is not None
    task.call = msgspec.structs.replace(task.call, attempt=2)

    assert executor(now_ms=lambda: 6000).run(task) == Run(Returned(msgspec.Raw(b"null")), 1007, 1014)


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), StopIteration()]
)
def test_whatever_the_code_raises_is_the_tasks_failure(error: BaseException) -> None:
    def fail() -> None:
        raise error

    found = failure(fail)

    assert found.error.type == type(error).__name__
    assert "in fail" in found.error.traceback
    assert found.is_ordinary == isinstance(error, Exception)


def test_a_task_that_asks_to_be_tried_again_may_say_when() -> None:
    def fail() -> None:
        raise Retry("not yet", after=3.5)

    found = failure(fail)

    assert (found.error.type, found.error.message, found.asked, found.after) == ("Retry", "not yet", True, 3.5)


def test_a_result_that_json_cannot_carry_is_final() -> None:
    found = failure(object)

    assert (found.error.type, found.is_final, found.error.traceback) == ("NotSerializable", True, "")


def test_a_plain_function_that_returns_a_coroutine_is_not_done() -> None:
    async def fetch(url: str) -> str:
        return url

    def wrapper(url: str) -> object:
        return fetch(url)

    found = failure(wrapper, "x")

    assert (found.error.type, found.is_final) == ("NotSerializable", True)
    assert "m:f returned the coroutine test_a_plain" in found.error.message
    assert found.error.message.endswith(
        "fetch, which nothing awaits, so its code has not run: await it in an `async def`, or make the decorator that "
        "returns it an `async def`"
    )


def test_a_hostile_exception_cannot_end_the_thread() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise SystemExit

        def __reduce__(self) -> str:
            raise SystemExit

    def fail() -> None:
        raise Hostile

    assert failure(fail).error.type.endswith("Hostile")


def test_a_raw_task_is_handled() -> None:
    seen: list[tuple[str, bytes]] = []
    task = Delivered(new_raw_name(), b"\xff", 1)

    found = executor(lambda name, data: seen.append((name, data))).run(task)
    assert isinstance(found, Run)
    assert found.ending == Returned()
    assert seen == [(task.name, b"\xff")]


def test_a_raw_task_whose_handler_raises_has_failed() -> None:
    def handle(_name: str, _data: bytes) -> None:
        raise KeyError("x")

    found = executor(handle).run(Delivered(new_raw_name(), b"", 1))
    assert isinstance(found, Run)
    assert isinstance(found.ending, Raised)
    assert found.ending.error.type == "KeyError"
