"""Shows in `/progress/worker-ID` what a worker runs and how far that is.

Tasks that come and go within two seconds are not shown unless they say something of themselves, so a worker of short
tasks writes nothing at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from herdmaster.core import layout
from herdmaster.core.progress import TaskProgress, encode_progress
from herdmaster.roles.bootstrap import restore_folders
from herdmaster.roles.delivered import Delivered
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode

_LOOK_SECONDS: Final = 1.0
_WRITE_SECONDS: Final = 2.0
"""Between two writes, at least."""
_SHOWN_AFTER_MS: Final = 2000

_log = logging.getLogger("herdmaster.worker")


class Board:
    """`running` gives the tasks whose code runs; `unix_ms` is the clock that their `started` is of."""

    def __init__(
        self, client: Client, worker: str, running: Callable[[], list[Delivered]], unix_ms: Callable[[], int]
    ) -> None:
        self._client = client
        self._path = layout.progress_path(worker)
        self._running = running
        self._unix_ms = unix_ms
        self._shown = encode_progress(())

    async def run(self) -> None:
        """Until it is cancelled. Raises SessionExpired."""
        written_at = self._client.clock() - _WRITE_SECONDS
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
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
        return encode_progress([
            _progress(task) for task in self._running() if task.said is not None or 0 < task.started <= before
        ])  # fmt: skip

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
    )
