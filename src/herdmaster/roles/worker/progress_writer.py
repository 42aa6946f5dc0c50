"""Shows in `/progress/worker-ID` which tasks a worker runs, and how far they are.

A task that ends within two seconds is not shown unless it reports progress, so a worker of short tasks writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from herdmaster.core import layout
from herdmaster.core.progress import MAX_AWAITED, TaskProgress, encode_progress
from herdmaster.roles.shared.bootstrap import restore_folders
from herdmaster.roles.shared.lacked_rights import LackedRights
from herdmaster.roles.worker.stalls import Stalls
from herdmaster.running.delivery import Delivered
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode

_LOOK_SECONDS: Final = 1.0
_WRITE_SECONDS: Final = 2.0
"""The least time between two writes."""
_SHOWN_AFTER_MS: Final = 2000

_log = logging.getLogger("herdmaster.worker")


class Slots(Protocol):
    """What the writer asks of a session: the tasks whose code runs, and `Slots.find_stalled`."""

    @property
    def running(self) -> list[Delivered]: ...

    def find_stalled(self) -> Sequence[Delivered]: ...


class ProgressWriter:
    """Writes the progress of one session. `unix_ms` is the clock by which tasks have started."""

    def __init__(self, client: Client, worker: str, slots: Slots, unix_ms: Callable[[], int]) -> None:
        self._client = client
        self._path = layout.progress_path(worker)
        self._slots = slots
        self._stalls = Stalls(client, worker, slots.find_stalled)
        self._unix_ms = unix_ms
        self._shown = encode_progress(())
        self._lacked = LackedRights()

    async def run(self) -> None:
        """Write until cancelled. Raises SessionExpired."""
        written_at = self._client.clock() - _WRITE_SECONDS
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(errors.ConnectionLoss):  # the next look is soon
                await self._stalls.look()
            picture = self._picture()
            # Rather a little early than one look late.
            if picture == self._shown or self._client.clock() - written_at < _WRITE_SECONDS - _LOOK_SECONDS / 100:
                continue
            written_at = self._client.clock()
            try:
                await self._write(picture)
            except errors.ConnectionLoss:
                continue
            except errors.ServerError as error:
                if self._lacked.is_news(error):
                    _log.warning("the progress of tasks cannot be shown: %s", error)
            self._shown = picture

    def _picture(self) -> bytes:
        before = self._unix_ms() - _SHOWN_AFTER_MS
        shown = [
            _progress(task) for task in self._slots.running if task.progress is not None or 0 < task.started <= before
        ]
        return encode_progress(shown, stalled=self._stalls.is_stalled)

    async def _write(self, picture: bytes) -> None:
        try:
            await self._client.set(self._path, picture)
        except errors.NoNode:
            await self._create(picture)

    async def _create(self, picture: bytes) -> None:
        try:
            with contextlib.suppress(errors.NodeExists):  # created by a request whose reply was lost
                await self._client.create(self._path, picture, mode=CreateMode.EPHEMERAL)
        except errors.NoNode:
            await restore_folders(self._client)
            await self._client.create(self._path, picture, mode=CreateMode.EPHEMERAL)


def _progress(task: Delivered) -> TaskProgress:
    progress = task.progress
    return TaskProgress(
        task.name,
        task.started,
        task.call.call if task.call is not None else None,
        task.attempt,
        progress.done if progress is not None else None,
        progress.total if progress is not None else None,
        progress.note if progress is not None else "",
        _awaited(task),
        task.call is not None and task.call.alone,
    )


def _awaited(task: Delivered) -> tuple[str, ...]:
    """Return the tasks that a task has been waiting for longer than a short while."""
    before = time.monotonic() - _SHOWN_AFTER_MS / 1000
    return tuple(name for name, since in (task.waits or {}).items() if since <= before)[:MAX_AWAITED]
