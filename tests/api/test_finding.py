"""Where a task is, as a program sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from herdmaster import Future, Herd, InvalidName
from herdmaster.inspection.task_seen import TaskState


def test_a_delayed_task_is_found_until_it_is_cancelled(served: str, make_herd: Callable[..., Herd]) -> None:
    herd = make_herd(served)
    future: Future[object] = herd.submit_call("unknown:function", delay=3600, priority=7)
    seen = herd.find(future.name)
    assert seen is not None
    assert (seen.state, seen.priority, seen.queue) == (TaskState.DELAYED, 7, "default")
    assert seen.due is not None
    assert future.cancel(timeout=30.0)
    assert herd.find(future.name) is None


async def test_many_are_looked_for_at_once(served: str, make_herd: Callable[..., Herd]) -> None:
    herd = make_herd(served)
    names = [f"task-{number}" for number in range(20)]
    assert await asyncio.gather(*(herd.find_async(name, 30.0) for name in names)) == [None] * 20


def test_a_search_without_a_server_ends_when_its_time_is_over(make_herd: Callable[..., Herd]) -> None:
    herd = make_herd("127.0.0.1:1", connect_timeout=0.5)
    with pytest.raises(TimeoutError, match=r"could not be asked for task-1 within 0\.2 s"):
        herd.find("task-1", timeout=0.2)


async def test_find_does_not_block_an_event_loop(make_herd: Callable[..., Herd]) -> None:
    with pytest.raises(RuntimeError, match="find_async"):
        make_herd("127.0.0.1:1").find("task-1")


def test_a_name_that_is_no_tasks_is_refused(make_herd: Callable[..., Herd]) -> None:
    with pytest.raises(InvalidName, match=r"future\.name"):
        make_herd("127.0.0.1:1").find("x/y")
    with pytest.raises(InvalidName, match=r"None is no task's name"):
        _ = make_herd("127.0.0.1:1").future(None)  # type: ignore[arg-type]  # the mistake that is shown
