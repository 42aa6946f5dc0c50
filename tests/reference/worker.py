"""The reference's worker."""

from __future__ import annotations

import logging
import queue
import random
import sys
import threading
from collections.abc import Callable
from functools import partial

from tests.reference.session import SESSION_TIMEOUT, WATCH_LOST, Code, Event, Reply, Session, warn_unless_ok

log = logging.getLogger(__name__)

PLACES = 200
DONE = b"done"

Execute = Callable[[str, bytes], None]


def print_payload(_name: str, payload: bytes) -> None:
    """What the reference calls executing a task."""
    sys.stdout.write(f"{payload.decode(errors='replace')}\n")
    sys.stdout.flush()


class BoundedExecutor:
    """One thread behind a fixed number of places. Daemon, so a task that never ends dies with the process."""

    def __init__(self, places: int = PLACES) -> None:
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue(maxsize=places)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Start nothing any more. Does not wait for what is running."""
        self._closed.set()
        try:
            self._queue.put_nowait(lambda: None)
        except queue.Full:
            return  # the thread wakes up for what is queued

    def execute(self, job: Callable[[], None]) -> bool:
        """Whether there was a place for it."""
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            if self._closed.is_set():
                return
            try:
                job()
            except Exception:  # a task's error ends that task only; it gets no status and stays in the inbox
                log.exception("a task failed")


class ReferenceWorker:
    """Watches its inbox and runs what it finds there, one task after another."""

    def __init__(
        self,
        hosts: str,
        *,
        execute: Execute = print_payload,
        session_timeout: float = SESSION_TIMEOUT,
        rng: random.Random | None = None,
        repeats_wrongly: bool = False,
    ) -> None:
        """`repeats_wrongly`: after a lost connection it asks as the Java program does: a status is created again below
        the path of the first, and an assignment that is read again has the name `null`."""
        self._session = Session(hosts, session_timeout)
        self._repeats_wrongly = repeats_wrongly
        self.name = f"worker-{(rng or random.Random()).getrandbits(32):x}"
        self.expired = self._session.expired
        self.dropped = 0
        self._inbox = f"/assign/{self.name}"
        self._execute = execute
        self._executor = BoundedExecutor()
        self._seen: set[str] = set()
        self._open = 0
        self._open_lock = threading.Lock()
        self._registered: queue.SimpleQueue[Reply[str]] = queue.SimpleQueue()

    def start(self) -> None:
        """Register and look for assignments. Raises LookupError when no master ever made the folders here."""
        self._session.start()
        self._executor.start()
        # Trait: the inbox first and the registration in a request of its own, so an inbox can be without a worker.
        self._session.create(self._inbox, b"", self._registered.put)
        self._session.create(f"/workers/{self.name}", b"Idle", self._registered.put, ephemeral=True)
        try:
            self._check_registered(self._registered.get(timeout=15.0))
            self._check_registered(self._registered.get(timeout=15.0))
        except Exception:
            self.close()
            raise
        self._list_inbox()

    def close(self) -> None:
        """End the session at once. What is running is left to itself and cannot report any more."""
        self._executor.close()
        self._session.close()

    def _check_registered(self, reply: Reply[str]) -> None:
        if reply.code not in (Code.OK, Code.NODE_EXISTS):
            raise LookupError(f"{reply.path}: {reply.code.value}; start a master first")

    def _list_inbox(self) -> None:
        self._session.children(self._inbox, self._inbox_listed, watch=self._inbox_changed)

    def _inbox_changed(self, event: Event) -> None:
        if event.type in ("CHILD", WATCH_LOST):
            self._list_inbox()

    def _inbox_listed(self, reply: Reply[list[str]]) -> None:
        if reply.code is not Code.OK:
            warn_unless_ok(reply)
            return
        # Trait: one look per name, as in the master; data that changes in place (`setData`) is never seen.
        new = [name for name in reply.value if name not in self._seen]
        self._seen = set(reply.value)
        # Trait: every listing takes a place in the queue, also one with nothing new in it.
        self._enqueue(f"listing of {len(new)}", partial(self._read_all, new))

    def _enqueue(self, what: str, job: Callable[[], None]) -> bool:
        if self._executor.execute(job):
            return True
        # Trait: what is dropped stays in the inbox unseen until this worker is gone.
        self.dropped += 1
        log.error("all %d places are taken: %s dropped", PLACES, what)
        return False

    def _read_all(self, names: list[str]) -> None:
        self._count_open(len(names))
        for name in names:
            self._get(f"{self._inbox}/{name}", name)

    def _get(self, path: str, name: str) -> None:
        self._session.get(path, partial(self._payload_read, name), repeat=not self._repeats_wrongly)

    def _payload_read(self, name: str, reply: Reply[bytes]) -> None:
        if reply.code is Code.CONNECTION_LOSS:
            self._get(reply.path, "null")
        elif reply.code is not Code.OK:
            warn_unless_ok(reply)
            self._count_open(-1)
        elif not self._enqueue(name, partial(self._run, name, reply.value)):
            self._count_open(-1)

    def _run(self, name: str, payload: bytes) -> None:
        try:
            self._execute(name, payload)
            # Trait: two requests, neither waits for the other's reply, and the outcome is `done` whatever came out.
            self._create_status(f"/status/{name}")
            self._session.delete(f"{self._inbox}/{name}", warn_unless_ok, repeat=False)
        finally:
            self._count_open(-1)

    def _create_status(self, path: str) -> None:
        self._session.create(path, DONE, self._status_created, repeat=not self._repeats_wrongly)

    def _status_created(self, reply: Reply[str]) -> None:
        if reply.code is Code.CONNECTION_LOSS:
            self._create_status(f"{reply.path}/status")
        else:
            warn_unless_ok(reply)

    def _count_open(self, change: int) -> None:
        with self._open_lock:
            before, self._open = self._open, self._open + change
            if not before and self._open:
                self._session.set(f"/workers/{self.name}", b"Working", warn_unless_ok)
            elif before and not self._open:
                self._session.set(f"/workers/{self.name}", b"Idle", warn_unless_ok)
