"""The drain that an operator asks for: the worker stays registered, and goes on if the operator says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from herdmaster.core.members import DRAINED, DRAINING, READY
from herdmaster.roles.shared.primary_kind import primary_is_ours
from herdmaster.roles.worker.own_znode import OwnZnode
from herdmaster.roles.worker.worker_session import WorkerSession
from herdmaster.zookeeper.client import Client

_INTERVAL: Final = 1.0
"""Seconds after which the primary and the inbox are looked at again."""


class RequestedDrain:
    """Keeps one session of a worker without tasks while that is wanted. `record_of` returns the worker's record for a
    state, `changed` is set whenever a task has ended, `is_over` says that the worker stops, which ends this drain."""

    def __init__(
        self,
        client: Client,
        session: WorkerSession,
        own: OwnZnode,
        *,
        record_of: Callable[[str], bytes],
        changed: asyncio.Event,
        is_over: Callable[[], bool],
    ) -> None:
        self._client = client
        self._session = session
        self._own = own
        self._record_of = record_of
        self._changed = changed
        self._is_over = is_over
        self._is_wanted = asyncio.Event()
        self.state = READY

    def set_wanted(self, *, is_wanted: bool) -> None:
        if is_wanted:
            self.state = DRAINING
            self._is_wanted.set()
        else:
            self.state = READY
            self._is_wanted.clear()
        self._changed.set()

    async def run(self) -> None:
        """Drain whenever that is wanted, until the session is over. Raises SessionExpired."""
        while True:
            await self._is_wanted.wait()
            written = ""
            while self._is_wanted.is_set() and not self._is_over():
                self._changed.clear()
                await self._hand_back()
                if self.state not in (READY, written) and await self._own.write(self._record_of(self.state)):
                    written = self.state
                await self._wait_changed()
            if self._is_over():
                await asyncio.Event().wait()  # the worker's own drain ends the session, and this with it
            self._session.set_starting(may_start=True)

    async def _hand_back(self) -> None:
        """Put back what does not run yet. Under any other primary than ours run it: nothing may be put back there."""
        is_ours = await primary_is_ours(self._client)
        if self._is_over() or not self._is_wanted.is_set():
            return
        self._session.set_starting(may_start=not is_ours)
        if is_ours:
            self._session.hand_back()
        self._session.look_again()
        self.state = DRAINED if self._session.is_empty else DRAINING

    async def _wait_changed(self) -> None:
        try:
            async with asyncio.timeout(_INTERVAL):
                await self._changed.wait()
        except TimeoutError:
            return
