"""Submission as the user sees it."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import multiprocessing
import pickle
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from herdmaster import Future, Herd, InvalidName, NotSerializable, PayloadTooLarge
from herdmaster.api.direction import Target
from herdmaster.api.io_thread import IoThread
from herdmaster.core.payload import MAX_PAYLOAD
from tests.api import tasks
from tests.api.tasks import App
from tests.api.znodes import Znodes


def test_a_task_is_still_a_plain_function(app: App) -> None:
    assert app.add(2, 3) == 5
    assert app.add.__name__ == "add"
    assert app.add.__wrapped__ is tasks.add
    assert app.herd._core._io_thread is None


_herd = Herd("localhost:1")


@_herd.task
def doubled(x: int) -> int:
    return 2 * x


@pytest.mark.long
def test_a_task_can_be_passed_on_to_other_processes_as_functions_can() -> None:
    assert pickle.loads(pickle.dumps(doubled)) is doubled
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        assert list(processes.map(doubled, [1, 2])) == [2, 4]


def test_a_submitted_task_runs_on_a_worker(app: App) -> None:
    assert app.add.submit(2, 3).result(timeout=10) == 5


def test_submit_returns_once_the_task_is_in_zookeeper(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    future = quiet.add.submit(2, y=3)

    assert znodes(namespace).children("tasks") == [future.name]
    assert not future.done()


async def test_submit_async_returns_once_the_task_is_in_zookeeper(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    future = await quiet.add.submit_async(2, 3)

    assert znodes(namespace).children("tasks") == [future.name]


async def test_submit_inside_a_running_loop_names_submit_async(app: App) -> None:
    with pytest.raises(RuntimeError, match="submit_async"):
        app.add.submit(2, 3)
    with pytest.raises(RuntimeError, match="submit_raw_async"):
        app.herd.submit_raw(b"x")
    assert app.herd._core._io_thread is None


async def test_tasks_can_be_submitted_and_awaited_in_a_loop(app: App) -> None:
    future = await app.add.submit_async(2, 3)

    assert await future == 5


def test_a_name_says_queue_and_priority(quiet: App) -> None:
    plain = quiet.add.submit(2, 3)
    urgent = quiet.add.options(queue="mail", priority=9).submit(2, 3)
    large = quiet.echo.submit("x" * 5000)

    assert re.fullmatch(r"task-[0-9a-z]{26}\.default", plain.name)
    assert re.fullmatch(r"task-[0-9a-z]{26}\.mail\.p9", urgent.name)
    assert re.fullmatch(r"task-[0-9a-z]{26}\.default\.b", large.name)


def test_options_make_another_task_and_leave_the_first_one_alone(quiet: App) -> None:
    mail = quiet.add.options(queue="mail")

    assert (mail.queue, mail.priority) == ("mail", quiet.add.priority)
    assert (mail.options(priority=1).queue, mail.options(priority=1).priority) == ("mail", 1)
    assert quiet.add.queue == "default"
    assert mail(2, 3) == 5


def test_options_never_mix_with_arguments_of_the_same_names(app: App) -> None:
    task = app.options_of_its_own.options(queue="mail", priority=7)

    future = task.submit(queue="q", priority=1, timeout=3.5, window=4, call="c")
    assert future.name.endswith(".mail.p7")
    assert future.result(10) == ["q", 1, 3.5, 4, "c"]
    assert app.called_self.submit(self=3).result(10) == 3
    assert app.called_self(self=3) == 3


def test_a_function_with_attributes_called_like_the_tasks_own_keeps_a_working_task(served: str) -> None:
    def busy() -> int:
        return 1

    busy.queue = "elsewhere"  # type: ignore[attr-defined]  # functions take attributes
    busy.submit = None  # type: ignore[attr-defined]  # as above
    task = Herd(served).task(busy)

    assert task.queue == "default"
    assert callable(task.submit)


def test_wrong_options_are_refused_where_they_are_given(app: App) -> None:
    with pytest.raises(InvalidName, match="is not a queue name"):
        app.add.options(queue="Mail!")
    with pytest.raises(InvalidName, match="from 0 to 9"):
        app.add.options(priority=10)
    with pytest.raises(InvalidName, match="is not a queue name"):
        app.herd.task(queue="p5")(tasks.add)


def test_the_payload_is_the_documented_envelope(quiet: App, namespace: str, kazoo: object) -> None:
    future = quiet.options_of_its_own.submit("q", priority=2)

    from kazoo.client import KazooClient

    assert isinstance(kazoo, KazooClient)
    data, _ = kazoo.get(namespace[namespace.index("/") :] + f"/tasks/{future.name}")
    assert json.loads(data) == {
        "herd": 1,
        "call": "tests.api.tasks:options_of_its_own",
        "args": ["q"],
        "kwargs": {"priority": 2},
        "attempt": 1,
        "deliveries": 0,
    }


def test_a_raw_task_is_its_bytes(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    future = quiet.herd.submit_raw(bytearray(b"\x00raw"))

    assert "." not in future.name
    assert znodes(namespace).children("tasks") == [future.name]


def test_a_raw_task_ends_with_none(app: App) -> None:
    assert app.herd.submit_raw(b"Sample task").result(10) is None


async def test_a_raw_task_can_be_submitted_in_a_loop(app: App) -> None:
    future = await app.herd.submit_raw_async(b"Sample task")

    assert await future is None  # type: ignore[func-returns-value]  # which is shown


def test_a_raw_task_has_to_be_bytes_and_not_too_many(quiet: App) -> None:
    with pytest.raises(TypeError, match=r"encode text, as in text\.encode\(\)"):
        quiet.herd.submit_raw("text")  # type: ignore[arg-type]  # the mistake that is shown
    with pytest.raises(PayloadTooLarge, match="store the data elsewhere"):
        quiet.herd.submit_raw(bytes(MAX_PAYLOAD + 1))
    assert quiet.herd.submit_raw(bytes(MAX_PAYLOAD)).name


def test_arguments_that_json_cannot_carry_are_named(quiet: App) -> None:
    with pytest.raises(NotSerializable, match=r"argument 2 \(a object\)"):
        quiet.echo_all.submit(1, object())
    with pytest.raises(NotSerializable, match=r"argument key= \(a float\)"):
        quiet.echo_all.submit(1, key=float("nan"))


def test_arguments_that_are_too_large_say_what_to_do(quiet: App) -> None:
    with pytest.raises(PayloadTooLarge, match="pass its address"):
        quiet.echo.submit("x" * MAX_PAYLOAD)


def test_a_refused_submission_harms_no_other(app: App) -> None:
    with pytest.raises(NotSerializable):
        app.echo.submit(object())
    with pytest.raises(PayloadTooLarge):
        app.echo.submit("x" * MAX_PAYLOAD)
    assert app.echo.submit("x").result(10) == "x"


def test_a_call_can_be_submitted_by_its_name(app: App) -> None:
    future: Future[object] = app.herd.submit_call("tests.api.tasks:add", [2], {"y": 3})

    assert future.result(10) == 5


async def test_a_call_can_be_submitted_by_its_name_in_a_loop(app: App) -> None:
    future: Future[object] = await app.herd.submit_call_async("tests.api.tasks:add", [2, 3])

    assert await future == 5


def test_twenty_threads_share_one_herd(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    # Counted here, not among the threads of the process: that of a Herd which another test dropped ends a moment later.
    make, made = app.herd._core._new_io_thread, []

    def count(target: Target) -> IoThread:
        made.append(make(target))
        return made[-1]

    monkeypatch.setattr(app.herd._core, "_new_io_thread", count)
    barrier = threading.Barrier(20)

    def submit_many(thread: int) -> list[int]:
        barrier.wait(10)
        futures = [app.add.submit(1000 * thread, item) for item in range(25)]
        return [future.result(20) for future in futures]

    with ThreadPoolExecutor(20) as threads:
        results = list(threads.map(submit_many, range(20)))

    assert results == [[1000 * thread + item for item in range(25)] for thread in range(20)]
    assert len(made) == 1


async def test_many_coroutines_share_one_herd(app: App) -> None:
    async def submit_and_wait(item: int) -> int:
        return await (await app.add.submit_async(item, item))

    assert await asyncio.gather(*map(submit_and_wait, range(300))) == [2 * item for item in range(300)]


def test_names_are_never_given_twice(quiet: App) -> None:
    names = [quiet.herd._core.new_ulid() for _ in range(20_000)]

    assert len(set(names)) == 20_000
    assert names == sorted(names)
