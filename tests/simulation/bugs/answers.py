"""Planted bugs beside the protocol: in running code, in answers, and in times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any
from unittest.mock import patch

import msgspec

from herdmaster.core import throttle, transitions
from herdmaster.core.operations import FlowPart
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.run import Returned, Run
from herdmaster.core.throttle import Throttle
from herdmaster.core.transitions import NewTask
from herdmaster.pools.limits import NotStarted
from herdmaster.roles.client.client import TaskClient
from herdmaster.roles.primary.master import Master
from herdmaster.roles.shared import role
from herdmaster.roles.shared.cancel_requests import CancelRequests
from herdmaster.roles.worker.next_move import NextMoves
from herdmaster.roles.worker.worker import Worker
from herdmaster.running.execution import Executor
from herdmaster.running.invocation import describe
from herdmaster.zookeeper.client import Predecessors, predecessors
from herdmaster.zookeeper.wire.records import Sync


def _instead_of_running(what: Callable[[], Any]) -> Any:
    def run(self: Any, task: Any) -> Any:
        if not self._may_start():
            return NotStarted()
        now = self._begin(task)
        return Run(what(), now, now)

    return patch.object(Executor, "run", run)


def code_never_runs() -> Any:
    """A worker writes outcomes without running the code."""
    return _instead_of_running(Returned)


def everything_fails() -> Any:
    """A worker writes failures without running the code."""
    return _instead_of_running(lambda: describe(ValueError("a fault of the worker")))


def code_runs_twice() -> Any:
    """A worker runs all code twice."""
    run = Executor.run

    def twice(self: Any, task: Any) -> Any:
        run(self, task)
        return run(self, task)

    return patch.object(Executor, "run", twice)


def another_result() -> Any:
    """An outcome has another result than the call returned."""
    make = NextMoves._outcome

    def outcome(  # noqa: PLR0917 - it stands for one that has as many
        self: Any, task: Any, state: OutcomeState, run: Any, what: Any = None, result: Any = None
    ) -> Any:
        return make(self, task, state, run, what, None if result is None else msgspec.Raw(b'"another"'))

    return patch.object(NextMoves, "_outcome", outcome)


def callers_are_not_told() -> Any:
    """A client that stops does not answer callers that wait for an acceptance."""
    return patch.multiple(TaskClient, _end=lambda _self: None, give_up=lambda _self, _name: None)


def _dies_in(role: type) -> Any:
    serve = role.serve  # type: ignore[attr-defined]  # both roles have it

    async def die() -> None:
        await asyncio.sleep(0.5)
        raise LookupError("a fault of the role")

    async def with_another(self: Any, client: Any) -> None:
        self.beside = asyncio.ensure_future(die())
        await serve(self, client)

    return patch.object(role, "serve", with_another)


def dies_in_a_worker() -> Any:
    """An asyncio task of a worker raises, and its exception is not retrieved."""
    return _dies_in(Worker)


def dies_in_a_master() -> Any:
    """An asyncio task of a master raises, and its exception is not retrieved."""
    return _dies_in(Master)


def due_too_early() -> Any:
    """A delayed task is due ten seconds early."""
    submit = transitions.submit

    def early(client: str, session_id: int, version: int, tasks: Iterable[NewTask | FlowPart]) -> Any:
        changed = [
            msgspec.structs.replace(task, due_ms=task.due_ms - 10_000)
            if isinstance(task, NewTask) and task.due_ms is not None
            else task
            for task in tasks
        ]
        return submit(client, session_id, version, changed)

    return patch.object(transitions, "submit", early)


def expired_by_the_machines_clock() -> Any:
    """A worker takes its machine's clock for the servers' when it looks whether a task has expired."""

    def is_expired(self: Any, task: Any) -> bool:
        call = task.call
        return call is not None and call.expires is not None and call.attempt == 1 and self.unix_ms() >= call.expires

    return patch.object(Executor, "is_expired", is_expired)


def retries_expire() -> Any:
    """A retry expires, as if its code had not begun before."""

    def is_expired(self: Any, task: Any) -> bool:
        return task.call is not None and task.call.expires is not None and self.now_ms() >= task.call.expires

    return patch.object(Executor, "is_expired", is_expired)


def new_primary_starts_at_once() -> Any:
    """A new primary does not wait for the second in which the one before it may have assigned."""
    make = throttle._Pace.__init__

    def begin(self: Any, rate: float, now: float) -> None:
        make(self, rate, now)
        self._counted_at = self._opens_at = now

    return patch.object(throttle._Pace, "__init__", begin)


def one_of_two_is_told_of_the_end() -> Any:
    """Of several callers that cancel one task, only the first is answered."""

    def settle(self: Any, task: str, *, is_cancelled: bool) -> None:
        self._decided.discard(task)
        for answer in self._answers.pop(task, ())[:1]:
            answer(is_cancelled)

    return patch.object(CancelRequests, "settle", settle)


def every_request_has_cancelled() -> Any:
    """A client takes a task for cancelled once it has asked for that."""
    settle = CancelRequests.settle

    def cancelled(self: Any, task: str, *, is_cancelled: bool) -> None:
        settle(self, task, is_cancelled=True)

    return patch.object(CancelRequests, "settle", cancelled)


def rate_ignored() -> Any:
    """The rate of a queue is ignored."""
    told = Throttle.set_limits

    def without_rate(self: Any, queue: str, settings: Any, now: float) -> None:
        told(self, queue, None if settings is None else msgspec.structs.replace(settings, rate=None), now)

    return patch.object(Throttle, "set_limits", without_rate)


def goes_on_in_what_it_gave_up() -> Any:
    """A client attaches to a session that it gave up, and sends a request other than closing it."""
    return patch.object(predecessors, "CloseSession", lambda: Sync("/"))


def closes_the_session_of_another() -> Any:
    """Processes share their list of sessions that were given up."""
    shared = Predecessors()
    return patch.object(role, "Predecessors", lambda: shared)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug
    for bug in (
        code_never_runs,
        everything_fails,
        code_runs_twice,
        another_result,
        callers_are_not_told,
        dies_in_a_worker,
        dies_in_a_master,
        due_too_early,
        expired_by_the_machines_clock,
        retries_expire,
        new_primary_starts_at_once,
        one_of_two_is_told_of_the_end,
        every_request_has_cancelled,
        rate_ignored,
        goes_on_in_what_it_gave_up,
        closes_the_session_of_another,
    )
}
