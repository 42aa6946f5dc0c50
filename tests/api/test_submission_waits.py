"""How long callers wait for their submissions, and what they are told, with an I/O thread that the test plays."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from herdmaster import HerdClosed
from herdmaster.api import submitting
from herdmaster.api.options import OnDuplicate, OnFull
from herdmaster.api.order import Order
from herdmaster.api.submitting import submit_all, submit_all_async, submit_and_wait, submit_and_wait_async
from herdmaster.core.transitions import NewTask
from herdmaster.errors import DuplicateTask, HerdError, NotAllSubmitted, NotSubmitted, SubmissionUnknown

A, B = (Order(NewTask(name, b"")) for name in ("task-a", "task-b"))
PATIENT = Order(NewTask("task-a", b""), max_backlog=1, on_full=OnFull.WAIT)


class IoThread:
    """Answers each submission as `answer` does: at once, later or never."""

    def __init__(self, answer: Callable[[str, Callable[[HerdError | None], None]], None]) -> None:
        self._answer = answer
        self.submitted: list[str] = []
        self.given_up: list[str] = []

    def submit(self, order: Order, _core: object, settle: Callable[[HerdError | None], None]) -> str:
        self.submitted.append(order.task.name)
        self._answer(order.task.name, settle)
        return f"future of {order.task.name}"

    def submit_many(
        self, orders: Sequence[Order], core: object, settle: Callable[[str, HerdError | None], None]
    ) -> list[str]:
        return [
            self.submit(order, core, lambda error, name=order.task.name: settle(name, error))  # type: ignore[misc]  # bound
            for order in orders
        ]

    def give_up(self, name: str) -> None:
        self.given_up.append(name)

    def wake(self, waiter: asyncio.Future[None]) -> None:
        waiter.set_result(None)

    def attach_holder(self, name: str, _core: object, order: Order) -> str:
        return f"future of {name} for {order.task.name}"


def core_of(io_thread: IoThread, submit_timeout: float = 30.0) -> Any:
    return SimpleNamespace(
        started=lambda: io_thread, settings=SimpleNamespace(submit_timeout=submit_timeout), spans=None
    )


def accepting(_name: str, settle: Callable[[HerdError | None], None]) -> None:
    settle(None)


def silent(_name: str, _settle: Callable[[HerdError | None], None]) -> None:
    """As a thread that never runs."""


def interrupted(name: str, _settle: Callable[[HerdError | None], None]) -> None:
    """Ctrl-C comes while the caller waits."""
    if name == "task-b":
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()


@pytest.fixture(autouse=True)
def plain_futures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The futures of these tests are texts."""
    monkeypatch.setattr(submitting, "Future", str)


def refusing(error: HerdError) -> Callable[[str, Callable[[HerdError | None], None]], None]:
    return lambda _name, settle: settle(error)


def submit_one(core: Any, order: Order) -> object:
    future: object = submit_and_wait(core, order)
    return future


def submit_many(core: Any, orders: Sequence[Order]) -> list[object]:
    futures: list[Any] = submit_all(core, orders)
    return futures


def submit_one_of_many(core: Any, order: Order) -> object:
    (future,) = submit_many(core, [order])
    return future


@pytest.mark.parametrize("submit", [submit_one, submit_one_of_many])
def test_a_submission_that_is_accepted_gives_its_future(submit: Callable[[Any, Order], object]) -> None:
    assert submit(core_of(IoThread(accepting)), A) == "future of task-a"


def test_a_thread_that_never_answers_leaves_the_submission_unknown_after_a_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submitting, "_GRACE_SECONDS", 0.01)
    core = core_of(IoThread(silent), submit_timeout=0.0)
    with pytest.raises(SubmissionUnknown, match="task-a"):
        submit_one(core, A)
    with pytest.raises(NotAllSubmitted) as raised:
        submit_many(core, [A, B])

    assert {number: type(error) for number, error in raised.value.errors.items()} == {
        0: SubmissionUnknown,
        1: SubmissionUnknown,
    }
    assert "task-b" in str(raised.value.errors[1])


@pytest.mark.parametrize("submit", [submit_one, submit_one_of_many])
def test_a_submission_that_waits_for_room_has_no_limit_of_time(
    submit: Callable[[Any, Order], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "_GRACE_SECONDS", 0.0)

    def later(_name: str, settle: Callable[[HerdError | None], None]) -> None:
        threading.Timer(0.05, settle, (None,)).start()

    assert submit(core_of(IoThread(later), submit_timeout=0.0), PATIENT) == "future of task-a"


@pytest.mark.within(10)
def test_ctrl_c_gives_up_what_is_not_on_its_way() -> None:
    one, many = IoThread(interrupted), IoThread(interrupted)
    with pytest.raises(KeyboardInterrupt):
        submit_one(core_of(one), B)
    with pytest.raises(KeyboardInterrupt):
        submit_many(core_of(many), [A, B])

    assert one.given_up == ["task-b"]
    assert many.given_up == ["task-a", "task-b"]


async def cancelled(submission: Awaitable[object]) -> None:
    task = asyncio.ensure_future(submission)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_caller_gives_up_what_is_not_on_its_way() -> None:
    one, many = IoThread(silent), IoThread(silent)
    await cancelled(submit_and_wait_async(core_of(one), A))
    await cancelled(submit_all_async(core_of(many), [A, B]))

    assert one.given_up == ["task-a"]
    assert many.given_up == ["task-a", "task-b"]


async def test_a_caller_that_is_cancelled_after_the_herd_was_closed_is_cancelled_all_the_same() -> None:
    class Closed(IoThread):
        def give_up(self, name: str) -> None:
            raise RuntimeError(name)

    await cancelled(submit_and_wait_async(core_of(Closed(silent)), A))


# --- refusals --------------------------------------------------------------------------------------------------------


async def outcomes(error: HerdError, order: Order) -> list[object]:
    """What one caller and several are told, in threads and in a loop."""
    core = core_of(IoThread(refusing(error)))
    found: list[object] = []
    calls: list[Callable[[], Any]] = [
        lambda: submit_and_wait(core, order),
        lambda: submit_and_wait_async(core, order),
        lambda: submit_all(core, [order]),
        lambda: submit_all_async(core, [order]),
    ]
    for call in calls:
        try:
            result = call()
            result = await result if asyncio.iscoroutine(result) else result
        except NotAllSubmitted as raised:
            result = raised.errors[0]
        except HerdError as raised:
            result = raised
        found.append(result[0] if isinstance(result, list) else result)
    return found


async def test_a_refusal_is_raised() -> None:
    error = NotSubmitted("no")

    assert await outcomes(error, A) == [error] * 4


@pytest.mark.parametrize("on_duplicate", OnDuplicate)
async def test_a_key_that_is_held_gives_the_future_of_its_holder_or_an_error(on_duplicate: OnDuplicate) -> None:
    error = DuplicateTask("task-holder")
    order = Order(NewTask("task-a", b""), on_duplicate=on_duplicate)
    attached = on_duplicate is OnDuplicate.RETURN

    assert await outcomes(error, order) == ["future of task-holder for task-a" if attached else error] * 4


def test_after_an_error_no_further_part_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitting, "PART", 2)
    orders = [Order(NewTask(f"task-{number}", b"")) for number in range(7)]

    def refuse_one(name: str, settle: Callable[[HerdError | None], None]) -> None:
        settle(HerdClosed("closed") if name == "task-3" else None)

    io_thread = IoThread(refuse_one)
    with pytest.raises(NotAllSubmitted) as raised:
        submit_many(core_of(io_thread), orders)

    assert io_thread.submitted == [f"task-{number}" for number in range(4)]
    assert raised.value.futures == (*(f"future of task-{number}" for number in range(3)), None, None, None, None)
    assert sorted(raised.value.errors) == [3, 4, 5, 6]
    assert [type(raised.value.errors[number]) for number in (3, 6)] == [HerdClosed, NotSubmitted]
    assert submit_many(core_of(IoThread(accepting)), orders) == [f"future of task-{number}" for number in range(7)]
    assert submit_many(core_of(IoThread(accepting)), []) == []
