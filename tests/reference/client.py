"""The reference's client."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from tests.reference.session import SESSION_TIMEOUT, WATCH_LOST, Code, Event, Reply, Session, warn_unless_ok

log = logging.getLogger(__name__)

LONGEST_PAYLOAD = 1_048_000
"""Bytes. ZooKeeper closes the connection on a request above 1,048,575, and repeating it would go on for ever."""


def is_success(outcome: bytes) -> bool:
    """Trait: any outcome that contains `done`, so also a JSON one whose state is done."""
    return b"done" in outcome


class Task:
    """A submitted task. `name` is there once it is accepted, `outcome` once it ended."""

    def __init__(self, payload: bytes, on_end: Callable[[], None]) -> None:
        self.payload = payload
        self.name: str | None = None
        self.outcome: bytes | None = None
        self.error: Exception | None = None
        self.accepted = threading.Event()
        self.ended = threading.Event()
        self._on_end = on_end

    def accept(self, name: str) -> None:
        self.name = name
        self.accepted.set()

    def end(self, outcome: bytes | None, error: Exception | None = None) -> None:
        self.outcome, self.error = outcome, error
        self.accepted.set()
        self.ended.set()
        self._on_end()

    def wait_accepted(self, timeout: float) -> str:
        if not self.accepted.wait(timeout):
            raise TimeoutError(f"a task was not accepted within {timeout:g} s")
        if self.name is None:
            raise RuntimeError(f"a task was refused ({self.error!r}); is there a master?") from self.error
        return self.name

    def wait(self, timeout: float) -> bytes:
        """The outcome. TimeoutError after `timeout` seconds, RuntimeError when ZooKeeper refused the task."""
        if not self.ended.wait(timeout):
            raise TimeoutError(f"{self.name or 'a task not accepted yet'} did not end within {timeout:g} s")
        if self.outcome is None:
            raise RuntimeError(f"{self.name or 'a task'} failed in ZooKeeper: {self.error!r}") from self.error
        return self.outcome


class ReferenceClient:
    """Submits raw tasks, and collects and deletes their outcomes.

    `patience` is how many seconds a task may take before `submit_many` and `submit_serially` give up.
    """

    def __init__(self, hosts: str, *, session_timeout: float = SESSION_TIMEOUT, patience: float = 60.0) -> None:
        self._session = Session(hosts, session_timeout)
        self._patience = patience
        self.expired = self._session.expired
        self._waiting: dict[str, Task] = {}
        self._tasks: dict[str, Task] = {}

    def start(self) -> None:
        self._session.start()

    def close(self) -> None:
        self._session.close()

    def submit(self, payload: bytes, timeout: float = 15.0) -> str:
        """Submit one task; its name when ZooKeeper accepted it."""
        task = self.submit_nowait(payload)
        name = task.wait_accepted(timeout)
        self._tasks[name] = task
        return name

    def wait(self, name: str, timeout: float) -> bytes:
        """The outcome of a task that `submit` named. A second call for the same name raises KeyError."""
        outcome = self._tasks[name].wait(timeout)
        del self._tasks[name]
        return outcome

    def submit_serially(self, payloads: Sequence[bytes]) -> list[tuple[str, bytes]]:
        """Each task is submitted when the one before it ended. Names and outcomes in order."""
        return self.submit_many(payloads, window=1)

    def submit_many(self, payloads: Sequence[bytes], window: int) -> list[tuple[str, bytes]]:
        """At most `window` tasks are under way at a time. Names and outcomes in the order of the payloads."""
        room = threading.Semaphore(window)
        tasks = []
        for payload in payloads:
            if not room.acquire(timeout=self._patience):
                raise TimeoutError(f"{window} tasks under way and none ended within {self._patience:g} s")
            tasks.append(self.submit_nowait(payload, on_end=room.release))
        return [(task.wait_accepted(self._patience), task.wait(self._patience)) for task in tasks]

    def submit_nowait(self, payload: bytes, on_end: Callable[[], None] = lambda: None) -> Task:
        """Submit without waiting. `on_end` is called on the thread of the replies, so it must not wait."""
        if len(payload) > LONGEST_PAYLOAD:
            raise ValueError(f"a payload of {len(payload)} bytes is too large, the limit is {LONGEST_PAYLOAD}")
        task = Task(payload, on_end)
        # Trait: repeated after a lost connection, so one submission can become two tasks.
        self._session.create("/tasks/task-", payload, partial(self._created, task), sequence=True)
        return task

    def _created(self, task: Task, reply: Reply[str]) -> None:
        if reply.code is not Code.OK:
            task.end(None, reply.error)
            return
        name = reply.value.rpartition("/")[2]
        task.accept(name)
        self._waiting[f"/status/{name}"] = task
        self._look_for_status(f"/status/{name}")

    def _look_for_status(self, path: str) -> None:
        self._session.exists(path, self._status_looked_up, watch=partial(self._status_changed, path))

    def _status_looked_up(self, reply: Reply[None]) -> None:
        if reply.code is Code.OK:
            self._session.get(reply.path, self._status_read)

    def _status_changed(self, path: str, event: Event) -> None:
        if event.type == "CREATED":
            self._session.get(path, self._status_read)
        elif event.type == WATCH_LOST and path in self._waiting:
            self._look_for_status(path)

    def _status_read(self, reply: Reply[bytes]) -> None:
        if reply.code is not Code.OK:
            warn_unless_ok(reply)
            return
        task = self._waiting.pop(reply.path, None)
        if task is not None:
            # Trait: the outcome counts before its znode is deleted, in a request whose reply is not awaited.
            self._session.delete(reply.path, warn_unless_ok)
            task.end(reply.value)
