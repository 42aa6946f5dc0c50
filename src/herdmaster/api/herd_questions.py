"""The questions of a Herd about tasks, keys and the past."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ParamSpec, TypeVar

from herdmaster.api.checks import check_call
from herdmaster.api.event_loops import refuse_in_loop
from herdmaster.api.herd_core import HerdCore
from herdmaster.api.past import Instant, ask_history
from herdmaster.api.questions import ask_and_wait, ask_and_wait_async
from herdmaster.api.task import Task
from herdmaster.core.names import parse_flow_name, parse_task_name
from herdmaster.errors import ConfigurationError, InvalidName
from herdmaster.inspection.history import History, HistoryFilter
from herdmaster.inspection.task_seen import TaskSeen
from herdmaster.inspection.tasks import find_task
from herdmaster.operations.keys import KeyRelease
from herdmaster.zookeeper.client import Client

P = ParamSpec("P")
R = TypeVar("R")


class HerdQuestions:
    """The part of `Herd` that asks ZooKeeper. It waits for the answer."""

    _core: HerdCore

    def find(self, name: str, timeout: float = 10.0) -> TaskSeen | None:
        """Return where a task is and its progress, as its code reported it; None if it is nowhere. Changes nothing.

        Raises InvalidName, TimeoutError if there is no answer from ZooKeeper in `timeout` seconds, RuntimeError inside
        a running event loop.
        """
        refuse_in_loop("find", "await find_async(...)")
        check_name(name)
        return ask_and_wait(self._core.started(), partial(find_task, name), name, timeout)

    async def find_async(self, name: str, timeout: float = 10.0) -> TaskSeen | None:  # noqa: ASYNC109 - as `find`
        """As `find`, for event loops."""
        check_name(name)
        return await ask_and_wait_async(self._core.started(), partial(find_task, name), name, timeout)

    def release_key(self, key: str, task: Task[P, R] | str | None = None, timeout: float = 10.0) -> str | None:
        """Take a uniqueness key from the task that holds it, so that the next submission with the key makes a task.

        `task` is a task or a call (`module:qualname`); without it the key is one with `key_scope="global"`. The holder
        goes on, or keeps its outcome. Return the holder's name; None if no task holds the key.

        Raises ConfigurationError for text that is no key or call, TimeoutError if there is no answer from ZooKeeper in
        `timeout` seconds, RuntimeError inside a running event loop, HerdError for a holder that was submitted by an
        older version and has not ended.
        """
        refuse_in_loop("release_key", "await release_key_async(...)")
        question = _release(key, task)
        return ask_and_wait(self._core.started(), question, f"the key {key!r}", timeout)

    async def release_key_async(
        self,
        key: str,
        task: Task[P, R] | str | None = None,
        timeout: float = 10.0,  # noqa: ASYNC109 - as `release_key`
    ) -> str | None:
        """As `release_key`, for event loops."""
        question = _release(key, task)
        return await ask_and_wait_async(self._core.started(), question, f"the key {key!r}", timeout)

    def history(
        self,
        since: Instant = 3600.0,
        until: Instant = 0.0,
        *,
        call: str | None = None,
        queue: str | None = None,
        error: str | None = None,
        flow: str | None = None,
        timeout: float = 10.0,
    ) -> History:
        """Return what ended in a time: numbers by call and queue, and records of failures. It is a log that workers
        write every few seconds: a worker that is killed takes its last seconds along.

        `since` and `until` are seconds or timedeltas before now, or datetimes with a time zone. `call` and `error` are
        whole names, or their last parts after `:` or `.`; the counts of `call` and `queue` are of every error. With
        `flow` (the name of a `FlowFuture`) the failures are those of its steps.

        Raises ConfigurationError for times that are no range of the past, TimeoutError if there is no answer from
        ZooKeeper in `timeout` seconds, RuntimeError inside a running event loop.
        """
        refuse_in_loop("history", "await history_async(...)")
        question = ask_history(since, until, HistoryFilter(call, queue, error, flow=flow))
        return ask_and_wait(self._core.started(), question, "the history", timeout)

    async def history_async(
        self,
        since: Instant = 3600.0,
        until: Instant = 0.0,
        *,
        call: str | None = None,
        queue: str | None = None,
        error: str | None = None,
        flow: str | None = None,
        timeout: float = 10.0,  # noqa: ASYNC109 - as `history`
    ) -> History:
        """As `history`, for event loops."""
        question = ask_history(since, until, HistoryFilter(call, queue, error, flow=flow))
        return await ask_and_wait_async(self._core.started(), question, "the history", timeout)


def _release(key: object, task: Task[P, R] | str | None) -> Callable[[Client], Awaitable[str | None]]:
    if not isinstance(key, str) or not key:
        raise ConfigurationError(f"{key!r} is no key: it is the text that key= gave")
    call = task.call if isinstance(task, Task) else task
    if call is not None:
        check_call(call)
    return KeyRelease(key, call).run


def check_name(name: object) -> None:
    """Raise InvalidName for what is no name of a task."""
    if isinstance(name, str) and parse_flow_name(name) is not None:
        raise InvalidName(f"{name} is a flow: `herd.flow_run(name)` has its state, its steps and its result")
    if not isinstance(name, str) or parse_task_name(name) is None:
        raise InvalidName(f"{name!r} is no task's name: it is what `future.name` gave, such as task-01h...default")
