"""Tasks that end in every way but done, and hooks that remember what they were called with."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import NamedTuple

from herdmaster.core import layout
from herdmaster.core.options import Overrides, PoolKind, RunOptions
from herdmaster.core.outcome import OutcomeState, decode_outcome, exception_of
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.running.current import CurrentTask, current_task
from herdmaster.running.hooks import Hooks
from herdmaster.running.registration import Registration
from tests.roles import app
from tests.roles.stage import Stage, StagedWorker, new_call_name, until

ALL_ASKED = tuple(f"worker-{number}" for number in range(20))


class HookCall(NamedTuple):
    """One call of `on_error` or `on_final_failure`."""

    task: str
    attempt: int
    kind: str
    text: str
    thread: str


class Told:
    """Hooks that remember what they were called with."""

    def __init__(self) -> None:
        self.returned: list[str] = []
        self.errors: list[HookCall] = []
        self.final: list[HookCall] = []
        self.hooks = Hooks(
            before_task=lambda task: None,
            after_task=lambda task, _result: self.returned.append(task.name),
            on_error=partial(self._note, self.errors),
            on_final_failure=partial(self._note, self.final),
        )

    def _note(self, calls: list[HookCall], task: CurrentTask, error: BaseException) -> None:
        assert current_task().name == task.name
        thread = threading.current_thread().name
        calls.append(HookCall(task.name, task.attempt, type(error).__name__, str(error), thread))

    def errors_of(self, task: str) -> list[HookCall]:
        return [call for call in self.errors if call.task == task]

    def final_of(self, task: str) -> list[HookCall]:
        return [call for call in self.final if call.task == task]

    def has_final(self, task: str) -> bool:
        return bool(self.final_of(task))


def spin_for_ever() -> None:
    """Ends only by what is raised in its thread, and then raises something else."""
    try:
        while True:
            pass
    finally:
        raise LookupError("of the code that was given up")


def spin_without_clearing_up() -> None:
    while True:
        pass


def spin_and_return() -> str:
    try:
        while True:
            pass
    except BaseException:  # noqa: BLE001 - as careless code does
        return "late"


async def sleep_and_return() -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "late"
    raise AssertionError("it was not cancelled")


async def cancel_itself() -> None:
    raise asyncio.CancelledError


def large() -> str:
    return "x" * 1_000_000


def return_object() -> object:
    return object()


def typed(number: int) -> int:
    return number


FUNCTIONS = {
    **app.functions(PoolKind.PROCESS),
    "m:spin_for_ever": spin_for_ever,
    "m:spin_and_return": spin_and_return,
    "m:sleep_and_return": sleep_and_return,
    "m:cancel_itself": cancel_itself,
    "m:spin_without_clearing_up": spin_without_clearing_up,
    "m:large": large,
    "m:return_object": return_object,
    "m:typed": typed,
    "m:divide": Registration(lambda x: 1 / x, RunOptions(max_attempts=2, backoff=100.0)),
}


async def assign(
    stage: Stage, worker: StagedWorker, function: str, *args: object, expires: int | None = None, **options: object
) -> str:
    name = new_call_name()
    wanted = Overrides(**options) if options else None  # type: ignore[arg-type]
    asked = ALL_ASKED if function == "absent" or args == ("one too many",) else ()
    call = Call(1, f"m:{function}", *encode_arguments(args, {}), options=wanted, expires=expires, asked=asked)
    await stage.put(layout.assignment_path(worker.name, name), data=encode_call(call))
    return name


async def error_of(stage: Stage, name: str) -> tuple[str, str]:
    """What its submitter is given."""
    await until(lambda: stage.exists(layout.status_path(name)), f"the outcome of {name}", 40.0)
    outcome = decode_outcome(name, await stage.data(layout.status_path(name)))
    assert outcome.state is not OutcomeState.DONE
    error = exception_of(outcome)
    return type(error).__name__, str(error)
