"""The tasks that a worker session holds, and the state that each is in.

| state          | next                                                                             | step          |
|----------------|----------------------------------------------------------------------------------|---------------|
| WAITING        | READING: it is a step, and takes results of its parents                          | `read`        |
|                | IN_POOL: a slot is free                                                          | `start`       |
|                | GOING_BACK: the worker lacks its function                                        | `go_back`     |
|                | COMMITTING: it is refused, has expired, or is handed back                        | `finish`      |
| READING        | WAITING: the results have been read                                              | `wait`        |
|                | COMMITTING: they cannot be read, it makes the items of an `each`, or is handed   | `finish`      |
|                | back                                                                             |               |
| IN_POOL        | WAITING: its code was not run                                                    | `wait`        |
|                | GOING_BACK: it is retried or forwarded                                           | `go_back`     |
|                | COMMITTING: it has ended, or is handed back while its code runs                  | `finish`      |
| GOING_BACK     | COMMITTING: it is known whose primary there is                                   | `finish`      |
| COMMITTING     | COMMITTING: ZooKeeper refused the move, and another one takes its place          | `finish`      |
|                | AWAITING_RETRY: the move was a retry in place                                    | `await_retry` |
| AWAITING_RETRY | WAITING: the retry is due                                                        | `wait`        |
|                | COMMITTING: it is handed back                                                    | `finish`      |
| all            | GONE: the assignment is no longer in the inbox                                   | `remove`      |
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterator
from typing import NoReturn

from herdmaster.core.options import PoolKind
from herdmaster.core.transitions import Move
from herdmaster.pools.job import Job
from herdmaster.roles.worker.next_move import Again
from herdmaster.running.delivery import Delivered


class State(enum.Enum):
    """What a held task is waiting for."""

    WAITING = "a slot"
    READING = "the results of the parents of a step"
    IN_POOL = "the end of its code"
    GOING_BACK = "the kind of the primary, which decides where it goes"
    COMMITTING = "the transaction of its move"
    AWAITING_RETRY = "the time of its next attempt here"
    GONE = "nothing"


# To read an attribute of an Enum class takes longer than a step.
_WAITING, _READING, _IN_POOL, _GOING_BACK, _COMMITTING, _AWAITING_RETRY, _GONE = State


class IllegalStep(Exception):
    """A step that the state of the task does not allow: a fault of Herdmaster's own."""


class Held:
    """One delivery of a task. Only `HeldTasks` changes `state`, `again` and `move`."""

    __slots__ = ("again", "alone", "job", "kind", "marked", "move", "since", "state", "suspect", "task")

    def __init__(self, task: Delivered, now: float) -> None:
        self.task = task
        self.since = now
        self.state = _WAITING
        self.kind = PoolKind.THREAD
        self.job: Job[Held] | None = None
        """In the pool; None as soon as its slot counts as free."""
        self.suspect = False
        """Whether a worker was lost while it ran this task."""
        self.alone = False
        """Whether it is a suspect that nothing else may run beside."""
        self.marked = False
        """Whether the start of a suspect is marked."""
        self.again: Again | None = None
        """While it is going back, and until a retry in place is committed."""
        self.move: Move | None = None
        """While it is committing."""

    def __repr__(self) -> str:
        return f"<Held {self.task.name} {self.state.name}>"


class HeldTasks:
    """All tasks of one session, by name. Each step raises IllegalStep in a state that the table does not name for it,
    and `finish` also while a request about a task that is COMMITTING is under way.

    At most one request about a name is under way: a transaction, or a pause before the next one. It may outlive the
    task, and the next delivery under that name waits for it.
    """

    def __init__(self) -> None:
        self._all: dict[str, Held] = {}
        self._waiting: dict[str, Held] = {}
        self._going_back: dict[str, Held] = {}
        self._unsent: dict[str, Held] = {}  # committing, and not sent yet
        self._requests: set[str] = set()
        self._in_pool = 0

    # --- queries -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Held]:
        """Iterate over a snapshot."""
        return iter(list(self._all.values()))

    def get(self, name: str) -> Held | None:
        return self._all.get(name)

    @property
    def waiting(self) -> Collection[Held]:
        """The tasks that wait for a slot; a live view."""
        return self._waiting.values()

    @property
    def going_back(self) -> Collection[Held]:
        """The tasks that wait for the kind of the primary; a live view."""
        return self._going_back.values()

    @property
    def requests(self) -> Collection[str]:
        """The names about which a request is under way; a live view."""
        return self._requests

    @property
    def in_pool(self) -> int:
        """How many tasks are in a pool."""
        return self._in_pool

    def unrun(self) -> list[Held]:
        """Return the tasks whose code has not been run to its end, in the order in which they came."""
        return [held for held in self._all.values() if held.state not in (_GOING_BACK, _COMMITTING)]

    # --- steps -------------------------------------------------------------------------------------------------------

    def add(self, task: Delivered, now: float) -> Held:
        """Hold a new delivery. It is waiting."""
        if task.name in self._all:
            raise IllegalStep(f"add: {task.name} is held already")
        held = self._all[task.name] = self._waiting[task.name] = Held(task, now)
        return held

    def start(self, held: Held) -> None:
        """Note that a task is handed to its pool."""
        if held.state is not _WAITING:
            _refuse("start", held)
        del self._waiting[held.task.name]
        self._in_pool += 1
        held.state = _IN_POOL

    def read(self, held: Held) -> None:
        """Note that the results of a step's parents are being read."""
        if held.state is not _WAITING:
            _refuse("read", held)
        del self._waiting[held.task.name]
        held.state = _READING

    def wait(self, held: Held) -> None:
        """Let a task wait for a slot: its code was not run, its retry in place is due, or its inputs have been read."""
        if held.state is _IN_POOL:
            self._in_pool -= 1
        elif held.state not in (_AWAITING_RETRY, _READING):
            _refuse("wait", held)
        held.state = _WAITING
        self._waiting[held.task.name] = held

    def go_back(self, held: Held, again: Again) -> None:
        """Note that a task is to be tried again, or elsewhere."""
        if held.state not in (_WAITING, _IN_POOL):
            _refuse("go_back", held)
        self._leave(held)
        held.state = _GOING_BACK
        held.again = again
        self._going_back[held.task.name] = held

    def finish(self, held: Held, move: Move) -> None:
        """Note the move that is to be committed."""
        if held.state is _IN_POOL:
            self._in_pool -= 1
        elif held.state is _GONE or (held.state is _COMMITTING and held.task.name in self._requests):
            _refuse("finish", held)
        else:
            self._leave(held)
        held.state = _COMMITTING
        held.move = move
        self._unsent[held.task.name] = held

    def await_retry(self, held: Held) -> None:
        """Note that the retry in place is committed."""
        if held.state is not _COMMITTING or held.again is None:
            _refuse("await_retry", held)
        self._leave(held)
        held.state = _AWAITING_RETRY
        held.again = held.move = None
        held.marked = False

    def remove(self, name: str) -> Held | None:
        """Hold a task no longer. Return it, or None if it is not held."""
        held = self._all.pop(name, None)
        if held is not None:
            self._leave(held)
            held.state = _GONE
        return held

    def _leave(self, held: Held) -> None:
        """Take a task out of the index of its state."""
        state = held.state
        if state is _COMMITTING:
            self._unsent.pop(held.task.name, None)
        elif state is _IN_POOL:
            self._in_pool -= 1
        elif state is _WAITING:
            del self._waiting[held.task.name]
        elif state is _GOING_BACK:
            del self._going_back[held.task.name]

    # --- requests ----------------------------------------------------------------------------------------------------

    def begin_commits(self, may_commit: Callable[[str], bool]) -> list[Move]:
        """Return the moves to be committed now, and count a request for each. Leaves out names that have one under way,
        and those that `may_commit` denies."""
        moves: list[Move] = []
        for name, held in self._unsent.items():
            if held.move is not None and name not in self._requests and may_commit(name):
                moves.append(held.move)
        for move in moves:
            del self._unsent[move.task]
            self._requests.add(move.task)
        return moves

    def begin_request(self, name: str) -> None:
        self._requests.add(name)

    def end_request(self, name: str) -> Held | None:
        """Return the task if it is still held. One that is still committing is sent again."""
        self._requests.discard(name)
        held = self._all.get(name)
        if held is not None and held.state is _COMMITTING:
            self._unsent[name] = held
        return held


def _refuse(step: str, held: Held) -> NoReturn:
    raise IllegalStep(f"{step}: {held!r}")
