"""Writes what has ended in this process to `/history`, in batches.

A batch that may not have been written is written again under its name, also with the next session, so it is counted
once. While ZooKeeper is away the recorder goes on counting in the memory that it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Final

from herdmaster.core import layout
from herdmaster.core.history import batch_name, encode_batch
from herdmaster.core.history_recorder import Recorder
from herdmaster.roles.shared.bootstrap import restore_folders
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import SessionState

INTERVAL: Final = 5.0
"""The shortest time between two batches of one process."""
_WRITES_PER_SECOND: Final = 20
"""Of all workers together."""
_FINISH_SECONDS: Final = 1.0
_BACKLOG_SECONDS: Final = 60.0
"""Time between two samples of a backlog if nothing else is written."""

_log = logging.getLogger("herdmaster.history")

Backlog = Mapping[str, int]


class HistoryWriter:
    """The writer of one role; it outlives sessions. `server_ms` gives the servers' time, as far as it is known, in unix
    milliseconds. `count_backlog` returns a primary's waiting tasks by queue, or None on a backup."""

    def __init__(
        self,
        recorder: Recorder,
        system: System,
        server_ms: Callable[[], int],
        count_backlog: Callable[[], Backlog | None] | None = None,
    ) -> None:
        self._recorder = recorder
        self._system = system
        self._server_ms = server_ms
        self._count_backlog = count_backlog
        self._sampled: Backlog = {}
        self._sampled_at: float | None = None
        self._unwritten: tuple[str, bytes] | None = None
        self._is_refused = False

    async def run(self, client: Client) -> None:
        """Write until the session is over. Raises SessionExpired then."""
        interval = INTERVAL
        # Processes that start together do not write together.
        await asyncio.sleep(self._system.rng.uniform(0, interval))
        while True:
            if await self.write(client):
                interval = await self._interval(client)
            await asyncio.sleep(interval)

    async def write(self, client: Client) -> bool:
        """Write what there is, if the connection holds. Return whether something was written."""
        batch = self._unwritten or self._next_batch()
        if batch is None:
            return False
        self._unwritten = batch
        name, data = batch
        try:
            await client.create(layout.history_path(name), data)
        except errors.NodeExists:
            pass  # it was written, and the reply was lost
        except errors.ConnectionLoss:
            return False
        except errors.NoNode:
            await restore_folders(client)
            return False
        except errors.ServerError as error:
            self._tell_refused(error)
            self._drop(batch)
            return False
        self._drop(batch)
        self._is_refused = False
        return True

    def _drop(self, batch: tuple[str, bytes]) -> None:
        """Forget a batch that need not be written again. `run` and `finish` may write at the same time: the other one
        may have come to the next batch."""
        if self._unwritten is batch:
            self._unwritten = None

    async def finish(self, client: Client) -> None:
        """Write all that there is, before the session ends. Gives up without a connection, and after a second: the
        history is no promise. Raises nothing."""
        with contextlib.suppress(errors.ZooKeeperError, TimeoutError):
            async with asyncio.timeout(_FINISH_SECONDS):
                # The batch that `run` may be writing is the first, what has ended since is the second.
                while client.state is SessionState.CONNECTED and await self.write(client):
                    pass

    def _next_batch(self) -> tuple[str, bytes] | None:
        now = self._system.unix_ms()
        backlog = self._sample()
        if self._recorder.is_empty and backlog is None:
            return None
        batch = self._recorder.take(now, backlog)
        return batch_name(self._server_ms(), self._system.new_id()), encode_batch(batch)

    def _sample(self) -> Backlog | None:
        """Return the backlog if it has changed and the last sample is old enough, or if something else is written."""
        if self._count_backlog is None:
            return None
        now = self._system.clock()
        is_due = self._sampled_at is None or now - self._sampled_at >= _BACKLOG_SECONDS
        if not is_due and self._recorder.is_empty:
            return None
        backlog = self._count_backlog()
        if backlog is None or (backlog == self._sampled and self._recorder.is_empty):
            return None
        self._sampled, self._sampled_at = dict(backlog), now
        return backlog

    async def _interval(self, client: Client) -> float:
        try:
            workers = await client.exists(layout.WORKERS)
        except (errors.ConnectionLoss, errors.ServerError):
            return INTERVAL
        return max(INTERVAL, workers.num_children / _WRITES_PER_SECOND) if workers is not None else INTERVAL

    def _tell_refused(self, error: errors.ServerError) -> None:
        """Log a refusal once, until a batch is written again."""
        if not self._is_refused:
            _log.warning("the history is not written, because ZooKeeper refused it: %s", error)
        self._is_refused = True
