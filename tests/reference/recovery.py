"""What the reference's master does first when it takes over: bring back the tasks of workers that are gone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from functools import partial

from tests.reference.session import Code, Reply, Session, warn_unless_ok

log = logging.getLogger(__name__)


class Takeover(Enum):
    """Two readings of the takeover."""

    AS_MEANT = "as meant"
    """A lost worker's task goes back to `/tasks` with its payload, then its assignment and the inbox are deleted."""

    AS_WRITTEN = "as written"
    """The Java program to the letter: it reads the inbox where it means the assignment, so the task goes back with the
    inbox's data (nothing) for its payload, and the assignment stays and comes back at the next takeover too."""


class Recovery:
    """One takeover: `/tasks`, `/assign`, `/workers`, each inbox, `/status`, in this order, then `done` is called.

    The requests leave in order on one session, so what is put back into `/tasks` is there before `/status` is listed
    and before the names with a status are deleted.
    """

    def __init__(self, session: Session, takeover: Takeover, done: Callable[[], None]) -> None:
        self._session = session
        self._takeover = takeover
        self._done = done
        self._tasks: set[str] = set()
        self._inboxes: set[str] = set()
        self._alive: set[str] = set()
        self._assigned: list[str] = []

    def start(self) -> None:
        self._session.children("/tasks", self._tasks_listed)

    def _tasks_listed(self, reply: Reply[list[str]]) -> None:
        self._tasks = set(reply.value)
        self._session.children("/assign", self._inboxes_listed)

    def _inboxes_listed(self, reply: Reply[list[str]]) -> None:
        self._inboxes = set(reply.value)
        self._session.children("/workers", self._workers_listed)

    def _workers_listed(self, reply: Reply[list[str]]) -> None:
        self._alive = set(reply.value)
        if not self._alive:
            # Trait: with no worker alive nothing is recovered, not even later; it is left to the next primary.
            log.warning("no worker alive, nothing is recovered")
            self._done()
            return
        if not self._inboxes:
            self._list_statuses()
        for worker in sorted(self._inboxes):
            self._session.children(f"/assign/{worker}", partial(self._inbox_listed, worker))

    def _inbox_listed(self, worker: str, reply: Reply[list[str]]) -> None:
        names = reply.value if reply.code is Code.OK else []
        if worker in self._alive:
            self._assigned.extend(names)
        elif self._takeover is Takeover.AS_WRITTEN:
            self._put_back_as_written(worker, names)
        else:
            self._put_back(worker, names)
        self._inboxes.discard(worker)
        if not self._inboxes:
            self._list_statuses()

    def _put_back(self, worker: str, names: list[str]) -> None:
        inbox = f"/assign/{worker}"
        missing = [name for name in names if name not in self._tasks]
        for name in names:
            if name in self._tasks:
                self._session.delete(f"{inbox}/{name}", warn_unless_ok)
        self._tasks.update(missing)
        Recreation(self._session, inbox, partial(self._session.delete, inbox, warn_unless_ok)).start(missing)

    def _put_back_as_written(self, worker: str, names: list[str]) -> None:
        inbox = f"/assign/{worker}"
        for name in names:
            if name in self._tasks:
                self._session.delete(f"{inbox}/{name}", warn_unless_ok)
            else:
                self._tasks.add(name)
                self._session.get(inbox, partial(self._recreate_as_written, name))
            # Refused while the inbox holds anything, so it goes only if all that it held was in /tasks as well.
            self._session.delete(inbox, warn_unless_ok)

    def _recreate_as_written(self, name: str, reply: Reply[bytes]) -> None:
        def created(outcome: Reply[str]) -> None:
            if outcome.code is Code.OK:
                self._session.delete(reply.path, warn_unless_ok)

        if reply.code is Code.OK:
            self._session.create(f"/tasks/{name}", reply.value, created)

    def _list_statuses(self) -> None:
        self._session.children("/status", self._statuses_listed)

    def _statuses_listed(self, reply: Reply[list[str]]) -> None:
        for name in [*self._assigned, *reply.value]:
            if name in self._tasks:
                self._session.delete(f"/tasks/{name}", warn_unless_ok)
        self._done()


class Recreation:
    """Puts tasks of an inbox back: read it, create it in `/tasks`, then delete the assignment, each in its own request.

    `then` runs when all are through. `on_exists` gets the attempt to repeat when the task is in `/tasks` already;
    without it the assignment of such a task is left where it is.
    """

    def __init__(
        self,
        session: Session,
        inbox: str,
        then: Callable[[], None],
        on_exists: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._session = session
        self._inbox = inbox
        self._then = then
        self._on_exists = on_exists
        self._left: set[str] = set()

    def start(self, names: list[str]) -> None:
        self._left = set(names)
        if not names:
            self._then()
        for name in names:
            self._session.get(f"{self._inbox}/{name}", partial(self._read, name))

    def _read(self, name: str, reply: Reply[bytes]) -> None:
        if reply.code is Code.OK:
            self._create(name, reply.value)
        else:
            self._through(name)

    def _create(self, name: str, payload: bytes) -> None:
        self._session.create(f"/tasks/{name}", payload, partial(self._created, name, payload))

    def _created(self, name: str, payload: bytes, reply: Reply[str]) -> None:
        if reply.code is Code.NODE_EXISTS and self._on_exists is not None:
            self._on_exists(partial(self._create, name, payload))
            return
        if reply.code is Code.OK:
            self._session.delete(f"{self._inbox}/{name}", warn_unless_ok)
        self._through(name)

    def _through(self, name: str) -> None:
        self._left.discard(name)
        if not self._left:
            self._then()
