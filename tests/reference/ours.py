"""Our roles as the mixes take them: each in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Generic, TypeVar

from herdmaster.core.names import UlidFactory, raw_name
from herdmaster.core.outcome import Outcome, encode_outcome
from herdmaster.core.transitions import NewTask
from herdmaster.errors import HerdError
from herdmaster.roles.client.client import ClientSettings, TaskClient
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.shared.role import Role
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from tests.reference.mixes import FutureClient, Kit

TIMEOUT = 4.0
"""Seconds, of sessions."""

RoleT = TypeVar("RoleT", bound=Role)


class ThreadRole(Generic[RoleT]):
    """`make` is called in the role's own thread."""

    def __init__(self, make: Callable[[], RoleT]) -> None:
        self._make = make
        self._loop = asyncio.new_event_loop()
        self._made: Future[RoleT] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._made.result(10)

    def close(self) -> None:
        if self._thread.is_alive():
            self.post(self._made.result(10).stop)
            self._thread.join(30)
            assert not self._thread.is_alive()

    @property
    def role(self) -> RoleT:
        return self._made.result(0)

    def post(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        role = self._make()
        self._made.set_result(role)
        await role.run()


class RawSubmitter:
    """Raw tasks through our client; a future ends with the outcome as it stood in `/status`."""

    def __init__(self, hosts: str) -> None:
        self._client = ThreadRole(lambda: TaskClient(hosts, ClientSettings(session_timeout=TIMEOUT)))
        self._client.start()
        self._ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)

    def submit(self, payload: bytes) -> tuple[str, Future[bytes]]:
        name = raw_name(self._ulids.new())
        ended: Future[bytes] = Future()

        def handle_accepted(_task: NewTask, error: HerdError | None) -> None:
            if error is not None:
                ended.set_exception(error)

        def handle_ended(_name: str, outcome: Outcome | None, error: HerdError | None) -> bool:
            if outcome is not None:
                ended.set_result(encode_outcome(name, outcome))
            else:
                ended.set_exception(error)
            return True

        task = NewTask(name, payload)
        self._client.post(lambda: self._client.role.submit(task, handle_accepted, handle_ended))
        return name, ended

    def close(self) -> None:
        self._client.close()


def _make_master(hosts: str) -> ThreadRole[Master]:
    return ThreadRole(lambda: Master(hosts, MasterSettings(session_timeout=TIMEOUT, orphan_inbox_seconds=5.0)))


def _make_worker(hosts: str) -> ThreadRole[Worker]:
    settings = WorkerSettings(session_timeout=TIMEOUT, slots=4, drain_timeout=10.0)
    return ThreadRole(lambda: Worker(hosts, {}, settings, raw_handler=lambda _name, _payload: None))


def _make_client(hosts: str) -> FutureClient:
    return FutureClient(partial(RawSubmitter, hosts))


OURS = Kit(_make_master, _make_worker, _make_client)

__all__ = ["OURS", "RawSubmitter", "ThreadRole"]
