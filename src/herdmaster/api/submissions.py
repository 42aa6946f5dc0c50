"""Submissions between the call of `submit` and their acceptance, on the I/O thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, Protocol

import msgspec

from herdmaster.api.options import OnDuplicate
from herdmaster.api.order import Order
from herdmaster.api.results import not_kept
from herdmaster.api.session import HerdClient
from herdmaster.core.flow_creation import NewFlow
from herdmaster.core.names import DEFAULT_QUEUE, is_call, queue_and_time, queue_of
from herdmaster.core.outcome import Outcome
from herdmaster.errors import BacklogFull, DuplicateTask, HerdError, NotSubmitted, SubmissionUnknown
from herdmaster.roles.client.backlog_limit import Asked
from herdmaster.roles.shared.cancel_requests import Answer

Settled = Callable[[HerdError | None], None]
"""Called once on the I/O thread, with None when the task was accepted. Must not block."""


class Submission(msgspec.Struct, frozen=True):
    """An order, and the callback of a caller that waits for its acceptance."""

    order: Order
    settled: Settled | None


class Futures(Protocol):
    """The futures of the process, as the I/O thread holds them."""

    @property
    def is_over(self) -> bool:
        """Whether the Herd is closed, or is being closed."""

    def waits_for(self, name: str) -> bool:
        """Say whether there is a future for the task."""

    def end(self, name: str, outcome: Outcome | None, error: Exception | None) -> bool:
        """End the future of a task. Return False if there is none."""

    def follow(self, order: Order, holder: str) -> None:
        """Make the future of an order that of the task that holds its key."""


class Submissions:
    """The submissions that are not settled. All methods belong to the I/O thread."""

    def __init__(self, client: HerdClient, loop: asyncio.AbstractEventLoop, futures: Futures, patience: float) -> None:
        """A submission that is not accepted within `patience` seconds is given up."""
        self._client = client
        self._loop = loop
        self._futures = futures
        self._unsettled = Unsettled(loop, patience, self.give_up)
        self.count = client.system.instruments.count_submissions
        self._cancels: dict[str, list[Answer]] = {}  # of tasks that are not accepted yet

    def __len__(self) -> int:
        return len(self._unsettled)

    def submit(self, submission: Submission) -> None:
        """Send a submission, once the limit of the backlog admits it."""
        order, name = submission.order, submission.order.task.name
        self._unsettled.add(submission)
        if self._loop.is_closed():
            return  # `end` settles it
        if not order.waits:
            self._unsettled.limit(name)
        if order.max_backlog is None:
            self._send(order)
            return
        admit, refuse = partial(self._send, order), partial(self._settle, name)
        self._client.backlog_limit.ask(Asked(name, order.max_backlog, order.waits, admit, refuse))

    def submit_many(self, submissions: Iterable[Submission]) -> None:
        """As `submit`, all in one turn of the loop, so that they share transactions."""
        for submission in submissions:
            self.submit(submission)

    def _send(self, order: Order) -> None:
        name = order.task.name
        if order.waits:  # from here on it has a limit of time like any other
            self._unsettled.limit(name)
        ended = None if order.ignore_result else self._futures.end
        if isinstance(order.task, NewFlow):
            self._client.submit_flow(
                order.task, partial(self._settle, name), self._futures.end, partial(self._unsettled.limit_anew, name)
            )
            return
        self._client.submit(order.task, lambda _task, error: self._settle(name, error), ended)

    def cancel(self, name: str, told: Answer) -> None:
        """Request the cancellation of a task, once it is accepted if it is not yet."""
        if self._loop.is_closed():
            told(False)
        elif name in self._unsettled:
            self._cancels.setdefault(name, []).append(told)
        else:
            self._client.cancels.request(name, told)

    def give_up(self, name: str) -> None:
        """End the wait for the acceptance of a task, with what is known now."""
        self._client.give_up(name)
        if name in self._unsettled:  # it never reached the journal
            self._settle(name, NotSubmitted(f"{name} was not accepted"))

    def end(self) -> None:
        """Give up all submissions."""
        for name in self._unsettled:
            self.give_up(name)

    def _settle(self, name: str, error: HerdError | None) -> None:
        submission = self._unsettled.pop(name)
        if submission is None:
            return
        order, settled = submission.order, submission.settled
        self._client.backlog_limit.forget(name)
        self._count(order, error)
        if error is not None:
            error = self._explained(name, error)
            if isinstance(error, DuplicateTask) and settled is None and order.on_duplicate is OnDuplicate.RETURN:
                self._futures.follow(order, error.name)
            else:
                self._futures.end(name, None, error)
        elif order.ignore_result:
            self._futures.end(name, None, not_kept(name))
        elif not self._futures.waits_for(name):
            self._client.outcomes.forget(name)  # its future was dropped before it was accepted
        for told in self._cancels.pop(name, ()):
            if error is None or isinstance(error, DuplicateTask):
                self._client.cancels.request(name if error is None else error.name, told)
            else:
                told(False)
        if order.sending is not None:
            is_fine = isinstance(error, DuplicateTask) and order.on_duplicate is OnDuplicate.RETURN
            order.sending.settled(None if is_fine else error)
        if settled is not None:
            settled(error)

    def _count(self, order: Order, error: HerdError | None) -> None:
        if self.count is not None:
            for queue in _queues(order):
                self.count(queue, _result(error))

    def _explained(self, name: str, error: HerdError) -> HerdError:
        """Add to NotSubmitted what is known of its reason: the Herd was closed, or there is no session."""
        if type(error) is not NotSubmitted:
            return error
        if self._futures.is_over:
            return NotSubmitted(f"{name} was not accepted before the Herd was closed")
        fault = self._client.fault
        return error if fault is None else NotSubmitted(f"{error} ({fault})")


def _queues(order: Order) -> Iterable[str]:
    """Return the queue of each task of an order."""
    if isinstance(order.task, NewFlow):
        return [queue_of(step.task) for step in order.task.steps]
    name = order.task.name
    return (queue_and_time(name)[0] if is_call(name) else DEFAULT_QUEUE,)


_RESULTS: Final[dict[type[HerdError], str]] = {
    DuplicateTask: "duplicate",
    BacklogFull: "backlog full",
    SubmissionUnknown: "unknown",
}


def _result(error: HerdError | None) -> str:
    """Return what came of a submission, in a word for metrics."""
    return "accepted" if error is None else _RESULTS.get(type(error), "not accepted")


class Unsettled:
    """Submissions by their names, with their limits of time. `give_up(name)` is called for each that takes longer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: float, give_up: Callable[[str], None]) -> None:
        self._loop = loop
        self._patience = patience
        self._give_up = give_up
        self._known: dict[str, Submission] = {}
        self._renewed: dict[str, float] = {}  # the end of the time of those whose time began anew
        self._due: deque[tuple[float, str]] = deque()  # the end of each one's time, in order
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._known))

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def add(self, submission: Submission) -> None:
        """Add a submission without a limit of time."""
        self._known[submission.order.task.name] = submission

    def limit_anew(self, name: str) -> None:
        """Begin the time of a submission again, because a part of it was accepted."""
        if name in self._known:
            self._renewed[name] = self._loop.time() + self._patience

    def limit(self, name: str) -> None:
        """Begin the time of a submission. All have the same time, so that the first to begin is the first to end."""
        self._due.append((self._loop.time() + self._patience, name))
        if self._timer is None:
            self._timer = self._loop.call_at(self._due[0][0], self._give_up_late_ones)

    def pop(self, name: str) -> Submission | None:
        """Remove and return a submission."""
        found = self._known.pop(name, None)
        self._renewed.pop(name, None)
        while self._due and self._due[0][1] not in self._known:
            self._due.popleft()
        return found

    def _give_up_late_ones(self) -> None:
        now = self._loop.time()
        if self._timer is not None:
            now = max(now, self._timer.when())  # a timer may fire a little early
        while self._due and self._due[0][0] <= now:
            _, name = self._due.popleft()
            renewed = self._renewed.pop(name, None)
            if renewed is None:
                self._give_up(name)
            else:
                self.limit(name)
        self._timer = self._loop.call_at(self._due[0][0], self._give_up_late_ones) if self._due else None
