"""What the workers of these tests run. `App` holds each of them as a task of a Herd."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from herdmaster import Herd, current_task

executions: Counter[str] = Counter()
"""How often each key was counted by `count`; the worker of these tests runs in the tests' process."""

gates: dict[str, threading.Event] = {}
reached: dict[str, threading.Event] = {}
mended: set[str] = set()
"""What `fail_until_mended` does not fail for any more."""


class Broken(Exception):
    """An exception that is neither built in nor registered."""


def add(x: int, y: int) -> int:
    return x + y


def echo(value: object) -> object:
    return value


def echo_all(*args: object, **kwargs: object) -> list[object]:
    return [list(args), kwargs]


def options_of_its_own(
    queue: str, priority: int, *, timeout: float = 1.0, window: int = 2, call: str = ""
) -> list[object]:
    return [queue, priority, timeout, window, call]


def called_self(self: int) -> int:
    return self


def fail(kind: str, *args: str | int | None) -> None:
    errors: dict[str, Callable[..., Exception]] = {
        "KeyError": KeyError,
        "OSError": OSError,
        "ValueError": ValueError,
        "TimeoutError": TimeoutError,
        "StopIteration": StopIteration,
        "Broken": Broken,
    }
    raise errors[kind](*args)


def fail_if_text(value: object) -> object:
    if isinstance(value, str):
        raise KeyError(value)
    return value


def leave(code: int) -> None:
    raise SystemExit(code)


def give(what: str) -> object:
    """A result that cannot be sent back."""
    cyclic: list[object] = []
    cyclic.append(cyclic)
    return {"object": object(), "nan": float("nan"), "large": "x" * 1_000_000, "cyclic": cyclic}[what]


def wait(gate: str) -> str:
    """Runs until the test opens the gate."""
    reached[gate].set()
    if not gates[gate].wait(30):
        raise AssertionError(f"the gate {gate} was not opened")
    return gate


def wait_and_fail(gate: str) -> str:
    raise LookupError(wait(gate))


def fail_until_mended(what: str) -> str:
    if what not in mended:
        raise LookupError(what)
    return what


def count(key: str) -> str:
    executions[key] += 1
    return key


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def count_once(key: str) -> int:
    """Fails in its first attempt, after it has counted."""

    def count_more() -> int:
        executions[key] += 1
        return executions[key]

    counted = current_task().once("count", count_more)
    if current_task().attempt == 1:
        raise LookupError(key)
    return counted


FUNCTIONS: tuple[Callable[..., object], ...] = (
    add, echo, echo_all, options_of_its_own, called_self, fail, fail_if_text, leave, give, wait, count, sleep,
    wait_and_fail, fail_until_mended, count_once,
)  # fmt: skip


def raised_by(function: Callable[..., object], *args: object) -> Exception:
    """What a plain call raises."""
    try:
        function(*args)
    except Exception as error:  # noqa: BLE001 - it is what is asked for
        return error
    raise AssertionError("nothing was raised")


class App:
    """The tasks of one Herd."""

    def __init__(self, herd: Herd) -> None:
        self.herd = herd
        self.add = herd.task(add)
        self.echo = herd.task(echo)
        self.echo_all = herd.task(echo_all)
        self.options_of_its_own = herd.task(options_of_its_own)
        self.called_self = herd.task(called_self)
        self.fail = herd.task(fail)
        self.fail_if_text = herd.task(fail_if_text)
        self.leave = herd.task(leave)
        self.give = herd.task(give)
        self.wait = herd.task(wait)
        self.wait_and_fail = herd.task(wait_and_fail)
        self.fail_until_mended = herd.task(fail_until_mended)
        self.count = herd.task(count)
        self.sleep = herd.task(sleep)


def registered() -> dict[str, Callable[..., object]]:
    """What a worker of these tests is given."""
    return {f"{function.__module__}:{function.__qualname__}": function for function in FUNCTIONS}
