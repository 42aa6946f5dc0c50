from __future__ import annotations

import pytest

from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome, decode_result
from herdmaster.core.payload import decode_call
from herdmaster.errors import UnknownCall
from herdmaster.roles.execution import Delivered, Executor, Function, RawHandler
from tests.roles.stage import call_payload, new_call_name, new_raw_name


class Clock:
    def __init__(self) -> None:
        self.now = 1000

    def __call__(self) -> int:
        self.now += 7
        return self.now


def no_raw(_name: str, _data: bytes) -> None:
    raise AssertionError("no raw task")


def executor(functions: dict[str, Function], raw: RawHandler = no_raw, *, may_start: bool = True) -> Executor:
    return Executor(functions, raw, "worker-w", lambda: may_start, unix_ms=Clock())


def delivered(function: str, *args: object) -> Delivered:
    payload = call_payload(function, *args)
    return Delivered(new_call_name(), payload, 1, decode_call(payload))


def run(functions: dict[str, Function], function: str, *args: object) -> Outcome:
    task = delivered(function, *args)
    data = executor(functions).run(task)
    assert data is not None
    return decode_outcome(task.name, data)


def test_a_call_gives_its_result_and_times() -> None:
    outcome = run({"m:add": lambda a, b: a + b}, "m:add", 2, 3)

    assert decode_result(outcome) == 5
    assert (outcome.worker, outcome.started, outcome.ended, outcome.attempt) == ("worker-w", 1007, 1014, 1)


def test_nothing_is_started_when_the_session_may_be_over() -> None:
    ran: list[int] = []

    assert executor({"m:f": lambda: ran.append(1)}, may_start=False).run(delivered("m:f")) is None
    assert ran == []


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), StopIteration()]
)
def test_whatever_the_code_raises_is_the_tasks_failure(error: BaseException) -> None:
    def fail() -> None:
        raise error

    outcome = run({"m:f": fail}, "m:f")

    assert outcome.state is OutcomeState.FAILED
    assert outcome.error is not None
    assert outcome.error.type == type(error).__name__
    assert "in fail" in outcome.error.traceback


def test_wrong_arguments_are_the_tasks_failure() -> None:
    outcome = run({"m:f": lambda: 1}, "m:f", 1, 2)

    assert outcome.error is not None
    assert outcome.error.type == "TypeError"


def test_only_what_was_registered_is_run_and_nothing_imported() -> None:
    outcome = run({"m:f": lambda: 1, "m:g": lambda: 2}, "antigravity:fly")

    assert outcome.error is not None
    assert outcome.error.type == UnknownCall.__name__
    assert "m:f, m:g" in outcome.error.message
    assert outcome.error.traceback == ""


def test_a_hostile_exception_cannot_end_the_thread() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise SystemExit

        def __reduce__(self) -> str:
            raise SystemExit

    def fail() -> None:
        raise Hostile

    outcome = run({"m:f": fail}, "m:f")
    assert outcome.state is OutcomeState.FAILED


def test_a_raw_task_is_handled_and_answered_raw() -> None:
    seen: list[tuple[str, bytes]] = []
    task = Delivered(new_raw_name(), b"\xff", 1, None)

    assert executor({}, lambda name, data: seen.append((name, data))).run(task) == b"done"
    assert seen == [(task.name, b"\xff")]


def test_a_raw_task_whose_handler_raises_has_failed() -> None:
    def handle(_name: str, _data: bytes) -> None:
        raise KeyError("x")

    assert executor({}, handle).run(Delivered(new_raw_name(), b"", 1, None)) == b"failed: KeyError"
