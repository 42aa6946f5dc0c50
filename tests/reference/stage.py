"""Roles of the reference that a test need not close itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from tests.reference.client import ReferenceClient
from tests.reference.master import ReferenceMaster
from tests.reference.mixes import Role
from tests.reference.recovery import Takeover
from tests.reference.worker import ReferenceWorker

TIMEOUT = 2.0
"""Seconds, of sessions: the shortest wait for an expiry that a busy machine does not cause by itself."""


class Stage:
    """Starts roles, and closes what a test did not close itself."""

    def __init__(self, hosts: str, stack: ExitStack, timeout: float = TIMEOUT) -> None:
        self.hosts = hosts
        self._stack = stack
        self._timeout = timeout

    def start(self, role: Role) -> None:
        self._stack.callback(role.close)
        role.start()

    def master(self, takeover: Takeover = Takeover.AS_MEANT) -> ReferenceMaster:
        master = ReferenceMaster(self.hosts, session_timeout=self._timeout, takeover=takeover)
        self.start(master)
        return master

    def worker(self, execute: Callable[[str, bytes], None] = lambda _name, _payload: None) -> ReferenceWorker:
        worker = ReferenceWorker(self.hosts, session_timeout=self._timeout, execute=execute)
        self.start(worker)
        return worker

    def client(self) -> ReferenceClient:
        client = ReferenceClient(self.hosts, session_timeout=self._timeout)
        self.start(client)
        return client
