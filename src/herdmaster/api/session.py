"""The sessions of a Herd: one after the other, until the Herd is closed."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from herdmaster.errors import HerdError
from herdmaster.roles.client.client import TaskClient
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.errors import NoServerReachable

_RETRY_SECONDS: Final = 0.2
_REFUSED_SECONDS: Final = 5.0
"""After a refusal that lasts until an operator acts."""

_log = logging.getLogger("herdmaster.client")


class HerdClient(TaskClient):
    """A client that remembers why it has no session, for the errors of callers that wait for one."""

    fault: HerdError | None = None

    def not_ready(self) -> str | None:
        """As `Role.not_ready`, with the reason if it is known why there is no session."""
        missing = super().not_ready()
        return missing if missing is None or self.fault is None else f"{missing}: {self.fault}"

    async def open(self) -> Client:
        self.says_late = self.fault is None  # it was told when it began
        try:
            client = await super().open()
        except HerdError as error:
            self.fault = error
            raise
        self.fault = None
        return client

    async def keep(self, stop: asyncio.Event) -> None:
        """Run one session after the other until `stop` is set."""
        told: set[str] = set()  # why no server was reached, since there was a session
        while not stop.is_set():
            known, pause = self.fault, _RETRY_SECONDS
            if known is None:
                told.clear()
            try:
                await self.run()
            except NoServerReachable as error:
                if str(error) not in told:
                    told.add(str(error))
                    self.connection_log.note_loss(logging.WARNING)
                    _log.warning("%s; trying again", error)
            except HerdError as error:  # such as NoAuth for the namespace, or BadPolicy
                if str(error) != str(known):
                    self.connection_log.note_loss(logging.ERROR)
                    _log.error("%s; trying again", error)
                pause = _REFUSED_SECONDS
            except Exception:  # noqa: BLE001 - a bug of Herdmaster's ends a session, and not the thread
                _log.exception("the session ended in an unexpected way; starting again")
            await _pause(stop, pause)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
