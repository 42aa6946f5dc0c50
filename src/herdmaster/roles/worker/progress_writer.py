"""Shows in `/progress/worker-ID` what a worker runs and how far that is.

Tasks that come and go within two seconds are not shown unless they say something of themselves, so a worker of short
tasks writes nothing at all.
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
from herdmaster.roles.worker.stalls import Stalls
from herdmaster.running.delivery import Delivered
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode

_LOOK_SECONDS: Final = 1.0
_WRITE_SECONDS: Final = 2.0
"""Between two writes, at least."""
_SHOWN_AFTER_MS: Final = 2000

_log = logging.getLogger("herdmaster.worker")


class Slots(Protocol):
    """`running`: the tasks whose code runs. `find_stalled`: see `Stalls`."""

    @property
    def running(self) -> list[Delivered]: ...

    def find_stalled(self) -> Sequence[Delivered]: ...


class ProgressWriter:
    """`unix_ms` is the clock that the `started` of tasks is of."""

    def __init__(self, client: Client, worker: str, slots: Slots, unix_ms: Callable[[], int]) -> None:
        self._client = client
        self._path = layout.progress_path(worker)
        self._slots = slots
        self._stalls = Stalls(client, worker, slots.find_stalled)
        self._unix_ms = unix_ms
        self._shown = encode_progress(())

    async def run(self) -> None:
        """Until it is cancelled. Raises SessionExpired."""
        written_at = self._client.clock() - _WRITE_SECONDS
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(errors.ConnectionLoss):  # at the next look again
                await self._stalls.look()
            picture = self._picture()
            # A little early rather than a look too late.
            if picture == self._shown or self._client.clock() - written_at < _WRITE_SECONDS - _LOOK_SECONDS / 100:
                continue
            written_at = self._client.clock()
            try:
                await self._write(picture)
            except errors.ConnectionLoss:
                continue  # at the next look again
            except errors.ServerError as error:
                _log.warning("the progress of tasks cannot be shown: %s", error)
            self._shown = picture

    def _picture(self) -> bytes:
        before = self._unix_ms() - _SHOWN_AFTER_MS
        shown = [_progress(task) for task in self._slots.running if task.said is not None or 0 < task.started <= before]
        return encode_progress(shown, stalled=self._stalls.is_stalled)

    async def _write(self, picture: bytes) -> None:
        try:
            await self._client.set(self._path, picture)
        except errors.NoNode:
            await self._create(picture)

    async def _create(self, picture: bytes) -> None:
        try:
            with contextlib.suppress(errors.NodeExists):  # it was created, and the reply lost
                await self._client.create(self._path, picture, mode=CreateMode.EPHEMERAL)
        except errors.NoNode:
            await restore_folders(self._client)
            await self._client.create(self._path, picture, mode=CreateMode.EPHEMERAL)


def _progress(task: Delivered) -> TaskProgress:
    said = task.said
    return TaskProgress(
        task.name,
        task.started,
        task.call.call if task.call is not None else None,
        task.attempt,
        said.done if said is not None else None,
        said.total if said is not None else None,
        said.note if said is not None else "",
        _awaited(task),
    )


def _awaited(task: Delivered) -> tuple[str, ...]:
    """Those that it waits for since a while."""
    before = time.monotonic() - _SHOWN_AFTER_MS / 1000
    return tuple(name for name, since in (task.waits or {}).items() if since <= before)[:MAX_AWAITED]
