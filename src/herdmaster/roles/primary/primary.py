"""The primary at work: watch, decide, commit, for as long as its session owns `/master`.

Everything that ZooKeeper tells goes straight into the pictures, in the order of the wire; the loop only asks each part
what is to be done now. After an interruption nothing is decided until fresh listings have come.
"""

from __future__ import annotations

import asyncio

import msgspec

from herdmaster.core.dispatcher import ORPHAN_INBOX_SECONDS, Dispatcher
from herdmaster.core.recovery import MAX_DELIVERIES, Recovery
from herdmaster.roles.primary.cancellation import Cancellation, Pictures
from herdmaster.roles.primary.dispatch import Dispatch
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.observation import Observation
from herdmaster.roles.primary.promotion import Promotion
from herdmaster.roles.primary.recount import RECOUNT_SECONDS, Recount
from herdmaster.roles.shared.bootstrap import restore_folders
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client


class PrimarySettings(msgspec.Struct, frozen=True):
    """`stands_in`: the primary is a program of the reference, so that this master assigns and recovers no tasks; it
    does what that program does not do."""

    max_deliveries: int = MAX_DELIVERIES
    orphan_inbox_seconds: float = ORPHAN_INBOX_SECONDS
    stands_in: bool = False
    recount_seconds: float = RECOUNT_SECONDS


class Primary:
    """One term of a primary, or of a master that stands in for what a primary of the reference leaves undone."""

    def __init__(self, client: Client, server_clock: ServerClock, settings: PrimarySettings) -> None:
        self._client = client
        self._clock = client.clock
        self._wake = asyncio.Event()
        wake = self._wake.set
        report = PrimaryLog()
        dispatcher = Dispatcher(orphan_inbox_seconds=settings.orphan_inbox_seconds)
        self._observation = Observation(client, dispatcher, report, wake)
        self._promotion = Promotion(client, server_clock, report, wake, stands_in=settings.stands_in)
        self._cancellation = Cancellation(client, Pictures(dispatcher, self._promotion.schedule), report, wake)
        self._parts: list[Dispatch | Promotion | Cancellation | Recount] = [self._promotion, self._cancellation]
        if not settings.stands_in:
            recovery = Recovery(settings.max_deliveries)
            self._parts.append(Recount(client, self._observation, wake, settings.recount_seconds))
            self._parts.append(
                Dispatch(client, self._observation, server_clock, recovery=recovery, report=report, wake=wake)
            )

    async def run(self) -> None:
        """Until the session is over: raises SessionExpired then, or what makes it impossible to go on."""
        self._observation.start()
        self._promotion.stream.start()
        self._cancellation.stream.start()
        while True:
            await self._observe()
            await self._restore_folders()
            for part in self._parts:
                part.step()

    async def _restore_folders(self) -> None:
        parts = (self._observation, *self._parts)
        if any(part.is_folder_missing for part in parts):
            for part in parts:
                part.is_folder_missing = False
            await restore_folders(self._client)

    async def stop(self) -> None:
        """Nothing is watched from here on; for after `run`, where the session goes on."""
        await self._observation.stop()
        await self._promotion.stream.stop()
        await self._cancellation.stream.stop()

    async def _observe(self) -> None:
        """Waits until something was told, or until it is time for something postponed."""
        fault = self._observation.fault or self._promotion.fault or self._cancellation.fault
        if fault is not None:
            raise fault
        if self._client.state.is_final:
            raise errors.SessionExpired("the primary's session ended")
        times = [part.next_wakeup() for part in self._parts]
        wakeup = min((time for time in times if time is not None), default=None)
        try:
            async with asyncio.timeout(None if wakeup is None else max(wakeup - self._clock(), 0.01)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()
