"""A callback that fails half-way ends the session of its role: what it may have forgotten is read anew."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from herdmaster.core.outcome import Outcome
from herdmaster.roles.client.outcomes import OutcomeWatch
from herdmaster.roles.primary.feed import Feed
from herdmaster.roles.shared import cancel_requests
from herdmaster.roles.shared.callbacks import StrayCancellation, callbacks_of_role, watch_callbacks
from herdmaster.roles.worker.worker_session import WorkerSession
from herdmaster.zookeeper.client import Client
from tests.roles.stage import TIMEOUT, Stage, until


class Broken(Exception):
    pass


class FailsOnce:
    """In place of a method: once it is armed, the next call changes nothing and raises. The others go through."""

    def __init__(self, method: Callable[..., object]) -> None:
        self._method = method
        self.is_armed = False

    def __get__(self, instance: object, _owner: type) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if self.is_armed:
                self.is_armed = False
                raise Broken
            return self._method(instance, *args, **kwargs)

        return call


@pytest.fixture
async def damaged(namespace: str, zk: Client, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Stage]:
    """A stage on which faults happen."""
    caplog.set_level(logging.INFO, "herdmaster")
    stage = Stage(namespace, zk)
    yield stage
    async with asyncio.timeout(15 * TIMEOUT):
        await stage.close()
        await stage.clear()


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Who said that it starts again because of one."""
    kinds = (Broken, StrayCancellation)
    found = [record for record in caplog.records if record.exc_info and isinstance(record.exc_info[1], kinds)]
    return [record.getMessage().partition(":")[0] for record in found if "a fault of Herdmaster's own" in record.msg]


@pytest.mark.long
@pytest.mark.parametrize(
    ("place", "role"),
    [
        ((WorkerSession, "_step"), "worker"),  # a callback of the next turn
        ((WorkerSession, "_ended"), "worker"),  # what a pool delivers, from a thread
        ((WorkerSession, "task_arrived"), "worker"),  # what a reply of ZooKeeper's leads to
        ((Feed, "_handle_tasks"), "master"),  # an event of ZooKeeper's
        ((OutcomeWatch, "_handle_created"), "client"),
        ((OutcomeWatch, "_step"), "client"),
    ],
)
async def test_no_task_hangs_because_a_callback_failed(
    damaged: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: tuple[type, str],
    role: str,
) -> None:
    owner, method = place
    failing = FailsOnce(getattr(owner, method))
    monkeypatch.setattr(owner, method, failing)
    await damaged.master()
    await damaged.worker({"m:double": lambda number: 2 * number})
    client = await damaged.client()
    assert await client.put_call("m:double", 1).result() == 2

    failing.is_armed = True
    submitted = [client.put_call("m:double", number) for number in range(10)]
    assert [await each.result() for each in submitted] == [2 * number for number in range(10)]
    assert faults(caplog) == [role]
    await damaged.until_empty()


async def test_a_callback_that_raises_a_cancelled_error_has_failed_as_well() -> None:
    watch_callbacks()
    told: list[Exception] = []

    def tell(error: Exception) -> bool:
        told.append(error)
        return True

    def fail() -> None:
        raise asyncio.CancelledError

    with callbacks_of_role(tell):
        asyncio.get_running_loop().call_soon(fail)
    await until(lambda: bool(told), "a word of the fault")
    assert [type(error) for error in told] == [StrayCancellation]


async def test_of_two_roles_in_one_loop_the_one_whose_callback_it_is_is_told() -> None:
    watch_callbacks()
    told: list[tuple[str, Exception]] = []

    async def play(name: str, fails: Callable[[], None]) -> None:
        def tell(error: Exception) -> bool:
            told.append((name, error))
            return True

        with callbacks_of_role(tell):
            asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_later, 0.01, fails)
            await asyncio.sleep(0)

    error = Broken()

    def fail() -> None:
        raise error

    await asyncio.gather(play("first", lambda: None), play("second", fail), play("third", lambda: None))
    await until(lambda: bool(told), "a word of the fault")
    assert told == [("second", error)]


async def test_what_is_no_callback_of_a_role_goes_to_the_handler_that_was_there() -> None:
    loop = asyncio.get_running_loop()
    handled: list[object] = []
    loop.set_exception_handler(lambda _loop, context: handled.append(context["exception"]))
    watch_callbacks()
    watch_callbacks()  # by another role
    told: list[Exception] = []
    errors = [Broken(), Broken()]

    def tell(error: Exception) -> bool:
        told.append(error)
        return True

    def fail(error: Exception) -> None:
        raise error

    async def die() -> None:
        raise errors[1]

    loop.call_soon(fail, errors[0])
    with callbacks_of_role(tell):
        task = loop.create_task(die())
        await asyncio.wait([task])
    del task  # only now is it known that its end is of interest to no code
    await until(lambda: len(handled) == 2, "both errors")
    assert handled == errors
    assert told == []


@pytest.mark.parametrize("error", [Broken, asyncio.CancelledError])
async def test_a_request_to_cancel_that_fails_in_an_unforeseen_way_is_made_again(
    damaged: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    make_request, calls = cancel_requests.make_request, 0

    async def fail_once(client: Client, task: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise error
        await make_request(client, task)

    monkeypatch.setattr(cancel_requests, "make_request", fail_once)
    await damaged.master()
    client = await damaged.client()
    submitted = client.put_call("m:nowhere")
    await submitted.accepted
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    client.cancels.request(submitted.name, told.set_result)

    outcome: Outcome = await submitted.outcome()
    assert outcome.state.value == "cancelled"
    assert faults(caplog) == ["client"]


@pytest.mark.parametrize("has_other", [True, False])
@pytest.mark.parametrize("is_reported", [True, False])
async def test_an_error_is_logged_as_always_unless_it_ends_a_session(has_other: bool, is_reported: bool) -> None:
    loop = asyncio.get_running_loop()
    told: list[str] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler((lambda _loop, _context: told.append("other")) if has_other else None)
    watch_callbacks()
    watch_callbacks()  # twice is once
    handle = loop.get_exception_handler()
    loop.set_exception_handler(before)
    assert handle is not None

    class Loop:
        def default_exception_handler(self, _context: object) -> None:
            told.append("asyncio")

    given: Any = Loop()
    with callbacks_of_role(lambda _error: is_reported):
        handle(given, {"exception": Broken()})

    assert told == (["other"] if has_other else [] if is_reported else ["asyncio"])
