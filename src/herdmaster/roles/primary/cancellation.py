"""Fulfils the requests in `/cancel`: finds the task and ends it as cancelled, or finds that it has ended.

The pictures of all folders that a task can stand in are, taken together, at every moment what ZooKeeper held at one
moment, and no transition leaves a task nowhere before it has ended. So what is in none of them has ended, or never was;
it is looked for once more behind a request to the server all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.cancelling import Assigned, Requests, Waiting, Whereabouts, cancel, drop_because_status, path_of
from herdmaster.core.delayed import Delayed, Schedule
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.names import is_call
from herdmaster.core.table import Verdict
from herdmaster.core.transitions import Move
from herdmaster.roles.primary.folder_changes import apply_change
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.shared.committer import Committer, Fate, Gathering, Settlement
from herdmaster.roles.shared.payload_reader import PayloadReader
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat
from herdmaster.zookeeper.recipes.children import ChildChange, ChildStream

MAX_UNDER_WAY: Final = 1000
_TRY_LATER_SECONDS: Final = 1.0
_SET_ASIDE_SECONDS: Final = 30.0


class Pictures:
    """Where a task is, as far as has been told."""

    def __init__(self, dispatcher: Dispatcher, schedule: Schedule) -> None:
        self._dispatcher = dispatcher
        self._schedule = schedule

    @property
    def are_current(self) -> bool:
        return self._dispatcher.is_current and self._schedule.is_current

    def find(self, task: str) -> Whereabouts | None:
        if task in self._dispatcher.backlog:
            return Waiting(task)
        due_ms = self._schedule.find(task)
        if due_ms is not None:
            return Delayed(due_ms, task)
        for worker in self._dispatcher.roster:
            if worker.inbox is not None and task in worker.inbox:
                return Assigned(task, worker.name)
        return None


class Cancellation:
    """`step` does what is to be done now; `wake` is called when it is worth another step."""

    def __init__(self, client: Client, pictures: Pictures, report: PrimaryLog, wake: Callable[[], None]) -> None:
        self._client = client
        self._clock = client.clock
        self._pictures = pictures
        self._report = report
        self._wake = wake
        self._committer = Committer(client)
        self._gathering = Gathering(partial(self._committer.commit, settled=self._settled))
        self._reader = PayloadReader(client)
        self._requests = Requests()
        self._under_way: dict[str, Whereabouts | None] = {}  # where each was seen
        self.stream = ChildStream(client, layout.CANCEL, self._handle)
        self.fault: errors.ServerError | None = None
        self.is_folder_missing = False  # `restore_folders` is wanted

    def step(self) -> None:
        """Raises the session's final error."""
        self._report.tell_foreign_names(self._requests.take_foreign_names())
        self._requests.release_postponed(self._clock())
        if not self._pictures.are_current:
            return
        to_read: list[tuple[Whereabouts, str, str]] = []
        for task in self._requests.take(MAX_UNDER_WAY - len(self._under_way)):
            where = self._under_way[task] = self._pictures.find(task)
            if where is None:
                self._look_again(task)
            elif is_call(task):
                to_read.append((where, task, path_of(where)))
            else:
                self._gathering.add(cancel(where, b""))
        self._reader.read(to_read, self._read)

    def next_wakeup(self) -> float | None:
        """When, on the client's clock, it is time for a step although nothing happens meanwhile."""
        return self._requests.next_release()

    def _handle(self, change: ChildChange) -> None:
        self.fault = apply_change(change, self._requests) or self.fault
        self._wake()

    # --- one task ------------------------------------------------------------------------------------------------

    def _look_again(self, task: str) -> None:
        def done(_stat: Stat | None, error: Exception | None) -> None:
            if error is not None:
                self._postpone(task, 0.0)
            elif self._pictures.are_current and self._pictures.find(task) is None:
                self._gathering.add(transitions.drop_cancel(task))
            else:
                self._finish(task)

        self._client.exists_nowait(layout.status_path(task), done)

    def _read(self, where: Whereabouts, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
        if isinstance(error, errors.NoNode):
            self._lost_race(where.task)
        elif data is not None or isinstance(error, errors.NoAuth):
            self._gathering.add(cancel(where, data or b""))
        elif isinstance(error, errors.ServerError):
            self._report.tell_unreadable(where.task, error)
            self._postpone(where.task, _SET_ASIDE_SECONDS)
        else:
            self._postpone(where.task, 0.0)

    def _settled(self, settlement: Settlement) -> None:
        task = settlement.move.task
        if settlement.fate is Fate.COMMITTED:
            self._finish(task)
        elif settlement.verdict is None:
            self._postpone(task, 0.0)  # its outcome is unknown: the next listings show it
        else:
            self._refused(settlement.move, settlement.verdict)

    def _refused(self, move: Move, verdict: Verdict) -> None:
        where = self._under_way[move.task]
        match verdict:
            case Verdict.RACE_LOST:
                self._lost_race(move.task)
            case Verdict.DROP_TASK_ENDED | Verdict.DROP_ASSIGNMENT | Verdict.DROP_DELAYED_ENDED if where is not None:
                self._gathering.add(drop_because_status(where))
            case Verdict.WITHOUT_KEY:
                self._gathering.add(transitions.without_key(move))
            case Verdict.DECIDE_AGAIN:  # the request was taken back, or the status collected
                self._postpone(move.task, _TRY_LATER_SECONDS)
            case Verdict.FOLDER_MISSING:
                self.is_folder_missing = True
                self._postpone(move.task, _TRY_LATER_SECONDS)
            case _:
                self._postpone(move.task, _SET_ASIDE_SECONDS)

    def _lost_race(self, task: str) -> None:
        """ZooKeeper tells of a change before any reply that shows it, so the picture shows where the task is now. If it
        shows no change, because events are withheld, say, looking again at once would go on for ever."""
        if self._pictures.are_current and self._pictures.find(task) == self._under_way[task]:
            self._postpone(task, _TRY_LATER_SECONDS)
        else:
            self._finish(task)

    # Each ends with exactly one of these.

    def _finish(self, task: str) -> None:
        del self._under_way[task]
        self._requests.finish(task)
        self._wake()

    def _postpone(self, task: str, seconds: float) -> None:
        del self._under_way[task]
        self._requests.postpone(task, self._clock() + seconds)
        self._wake()
