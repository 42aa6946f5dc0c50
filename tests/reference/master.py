"""The reference's master."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from enum import Enum
from functools import partial

from tests.reference.recovery import Recovery, Recreation, Takeover
from tests.reference.session import SESSION_TIMEOUT, WATCH_LOST, Code, Event, Reply, Session, warn_unless_ok

log = logging.getLogger(__name__)

FOLDERS = ("/workers", "/assign", "/tasks", "/status")

# The Java program repeats such a request at once, as often as the server answers.
_TASK_EXISTS_PAUSE = 0.05


class MasterState(Enum):
    RUNNING = "running"
    ELECTED = "elected"
    NOT_ELECTED = "not elected"


class ReferenceMaster:
    """Runs for `/master`; the primary assigns each new task to a worker picked at random."""

    def __init__(
        self,
        hosts: str,
        *,
        session_timeout: float = SESSION_TIMEOUT,
        rng: random.Random | None = None,
        takeover: Takeover = Takeover.AS_MEANT,
        repeats_wrongly: bool = False,
        master_id: str | None = None,
    ) -> None:
        """`repeats_wrongly`: a delete of a task that a lost connection left undecided is asked for again, as the Java
        program does, at `/tasks//tasks/TASK`, which no client library sends. `master_id`: two of them may have one."""
        self._session = Session(hosts, session_timeout)
        self._rng = rng or random.Random()
        self._takeover = takeover
        self._repeats_wrongly = repeats_wrongly
        self.master_id = master_id or f"{self._rng.getrandbits(32):x}"
        self.expired = self._session.expired
        self._changed = threading.Condition()
        self._state = MasterState.RUNNING
        self._seen_workers: list[str] | None = None
        self._seen_tasks: set[str] = set()

    def start(self) -> None:
        """Make the folders and run for primary. Returns when the race is decided; TimeoutError after 15 s."""
        self._session.start()
        for folder in FOLDERS:
            self._session.create(folder, b"", self._folder_created)
        self._run_for_master()
        with self._changed:
            if not self._changed.wait_for(lambda: self._state is not MasterState.RUNNING, timeout=15.0):
                raise TimeoutError("the race for /master was not decided within 15 s")

    def close(self) -> None:
        self._session.close()

    @property
    def state(self) -> MasterState:
        return self._state

    @property
    def workers(self) -> list[str]:
        """The workers of the newest listing, sorted; empty for a backup."""
        return sorted(self._seen_workers or [])

    def wait_for_state(self, state: MasterState, timeout: float) -> bool:
        """Whether it got there within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state is state, timeout=timeout)

    def _folder_created(self, reply: Reply[str]) -> None:
        if reply.code not in (Code.OK, Code.NODE_EXISTS):
            warn_unless_ok(reply)

    # Election

    def _enter(self, state: MasterState) -> None:
        log.info("master %s: %s", self.master_id, state.value)
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _run_for_master(self) -> None:
        self._session.create("/master", self.master_id.encode(), self._ran_for_master, ephemeral=True, repeat=False)

    def _ran_for_master(self, reply: Reply[str]) -> None:
        if reply.code is Code.OK:
            self._take_over()
        elif reply.code in (Code.NODE_EXISTS, Code.CONNECTION_LOSS):
            self._check_master()
        else:
            warn_unless_ok(reply)
            self._enter(MasterState.NOT_ELECTED)

    def _check_master(self) -> None:
        self._session.get("/master", self._master_read)

    def _master_read(self, reply: Reply[bytes]) -> None:
        # Trait: who is primary is told by the data, not by the session that owns the znode.
        if reply.code is Code.NO_NODE:
            self._run_for_master()
        elif reply.code is Code.OK and reply.value == self.master_id.encode():
            self._take_over()
        else:
            self._enter(MasterState.NOT_ELECTED)
            self._watch_master()

    def _watch_master(self) -> None:
        self._session.exists("/master", self._master_looked_up, watch=self._master_changed)

    def _master_looked_up(self, reply: Reply[None]) -> None:
        if reply.code is Code.NO_NODE:
            self._enter(MasterState.RUNNING)
            self._run_for_master()

    def _master_changed(self, event: Event) -> None:
        # Trait: a change of the data uses the watch up, and a backup is deaf from then on.
        if event.type == "DELETED":
            self._run_for_master()
        elif event.type == WATCH_LOST:
            self._watch_master()

    def _take_over(self) -> None:
        self._enter(MasterState.ELECTED)
        self._list_workers()
        Recovery(self._session, self._takeover, done=self._list_tasks).start()

    # Workers

    def _list_workers(self) -> None:
        self._session.children("/workers", self._workers_listed, watch=self._workers_changed)

    def _workers_changed(self, event: Event) -> None:
        if event.type in ("CHILD", WATCH_LOST):
            self._list_workers()

    def _workers_listed(self, reply: Reply[list[str]]) -> None:
        if reply.code is not Code.OK:
            warn_unless_ok(reply)
            return
        # The first listing has none to compare with: who left before it is the takeover's matter.
        lost = set(self._seen_workers or []) - set(reply.value)
        self._seen_workers = reply.value
        for worker in sorted(lost):
            self._session.children(f"/assign/{worker}", partial(self._lost_inbox_listed, worker))

    def _lost_inbox_listed(self, worker: str, reply: Reply[list[str]]) -> None:
        if reply.code is not Code.OK:
            warn_unless_ok(reply)
            return
        inbox = f"/assign/{worker}"
        log.info("%s is gone, %d tasks go back", worker, len(reply.value))
        Recreation(self._session, inbox, partial(self._drop_inbox, inbox), self._try_later).start(reply.value)

    def _drop_inbox(self, inbox: str) -> None:
        # The Java program leaves the inboxes of lost workers where they are.
        if self._takeover is Takeover.AS_MEANT:
            self._session.delete(inbox, warn_unless_ok)

    def _try_later(self, attempt: Callable[[], None]) -> None:
        # Trait: the task may be in /tasks because its delete is still on the way, so the create is repeated for ever.
        timer = threading.Timer(_TASK_EXISTS_PAUSE, attempt)
        timer.daemon = True
        timer.start()

    # Tasks

    def _list_tasks(self) -> None:
        self._session.children("/tasks", self._tasks_listed, watch=self._tasks_changed)

    def _tasks_changed(self, event: Event) -> None:
        if event.type in ("CHILD", WATCH_LOST):
            self._list_tasks()

    def _tasks_listed(self, reply: Reply[list[str]]) -> None:
        if reply.code is not Code.OK:
            warn_unless_ok(reply)
            return
        # Trait: one look per name. Only a name that the listing before did not have is new.
        new = [name for name in reply.value if name not in self._seen_tasks]
        self._seen_tasks = set(reply.value)
        for name in new:
            self._session.get(f"/tasks/{name}", partial(self._task_read, name))

    def _task_read(self, name: str, reply: Reply[bytes]) -> None:
        if reply.code is not Code.OK:
            warn_unless_ok(reply)
        elif not self._seen_workers:
            # Trait: the Java program fails here for want of a worker, and never looks at the name again.
            log.error("no worker for %s: passed over", name)
        else:
            worker = self._rng.choice(self._seen_workers)
            self._session.create(f"/assign/{worker}/{name}", reply.value, partial(self._assigned, name))

    def _assigned(self, name: str, reply: Reply[str]) -> None:
        # Trait: the task is in both places now. It stays so when this create was a repeated one, answered NODE_EXISTS.
        if reply.code is Code.OK:
            self._session.delete(f"/tasks/{name}", warn_unless_ok, repeat=not self._repeats_wrongly)
        else:
            warn_unless_ok(reply)
