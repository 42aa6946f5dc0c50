"""The session of a Herd: kept up for as long as the Herd is, whatever happens to servers and connections."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from herdmaster.roles.client.client import TaskClient
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.errors import NoServerReachable, ZooKeeperError

_RETRY_SECONDS: Final = 0.2

_log = logging.getLogger("herdmaster.client")


class HerdClient(TaskClient):
    """Remembers why there is no session, for those who wait for one."""

    fault: ZooKeeperError | None = None

    async def open(self) -> Client:
        self.says_late = self.fault is None  # it was told when it began
        try:
            client = await super().open()
        except ZooKeeperError as error:
            self.fault = error
            raise
        self.fault = None
        return client

    async def keep(self, stop: asyncio.Event) -> None:
        """One session after the other, until it is to stop."""
        while not stop.is_set():
            known = self.fault
            try:
                await self.run()
            except NoServerReachable as error:
                if known is None:
                    self.connection_log.note_loss(logging.WARNING)
                    _log.warning("%s; trying again", error)
            except ZooKeeperError as error:  # such as a namespace that this client may not use
                if str(error) != str(known):
                    self.connection_log.note_loss(logging.ERROR)
                    _log.error("%s; trying again", error)
            except Exception:  # noqa: BLE001 - a fault of ours costs a session, not the thread
                _log.exception("the session ended in a way that was not foreseen; starting again")
            await _pause(stop)


async def _pause(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_RETRY_SECONDS):
            await stop.wait()
    except TimeoutError:
        return
