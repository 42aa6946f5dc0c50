"""A primary's term: watch, decide, commit, as long as its session owns `/master`.

Everything that ZooKeeper tells goes straight into the pictures, in the order of the wire. The loop only asks each part
what is to be done now. After an interruption nothing is decided until fresh listings have come.
"""

from __future__ import annotations

import asyncio

import msgspec

from herdmaster.core.census import Census
from herdmaster.core.dispatcher import ORPHAN_INBOX_SECONDS, Dispatcher
from herdmaster.core.recovery import MAX_DELIVERIES, Recovery
from herdmaster.roles.primary.cancellation import Cancellation, Pictures
from herdmaster.roles.primary.dispatch import Dispatch
from herdmaster.roles.primary.feed import Feed
from herdmaster.roles.primary.flow_ends import FlowEnds
from herdmaster.roles.primary.flow_feed import FlowFeed
from herdmaster.roles.primary.flow_starts import FlowStarts
from herdmaster.roles.primary.folder_part import FolderPart
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.lost_steps import LostSteps
from herdmaster.roles.primary.part import Part
from herdmaster.roles.primary.promotion import Promotion
from herdmaster.roles.primary.recount import RECOUNT_SECONDS, Recount
from herdmaster.roles.primary.scheduling import Scheduling
from herdmaster.roles.shared.bootstrap import restore_folders
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client


class PrimarySettings(msgspec.Struct, frozen=True):
    """`stands_in`: a reference primary assigns and recovers, and this master does only what that one does not do."""

    max_deliveries: int = MAX_DELIVERIES
    orphan_inbox_seconds: float = ORPHAN_INBOX_SECONDS
    stands_in: bool = False
    recount_seconds: float = RECOUNT_SECONDS


class Primary:
    """One term of a primary, or of a master that stands in under a reference primary."""

    def __init__(
        self, client: Client, server_clock: ServerClock, report: PrimaryLog, settings: PrimarySettings
    ) -> None:
        self._client = client
        self._clock = client.clock
        self._wake = asyncio.Event()
        wake = self._wake.set
        dispatcher = self._dispatcher = Dispatcher(orphan_inbox_seconds=settings.orphan_inbox_seconds)
        self._feed = Feed(client, dispatcher, report, wake)
        promotion = Promotion(client, server_clock, report, wake, stands_in=settings.stands_in)
        self._delayed = promotion.delayed
        pictures = Pictures(dispatcher, promotion.delayed)
        flow_feed = FlowFeed(client, report, wake)
        self._flows = flow_feed.flows
        cancellation = Cancellation(client, pictures, flow_feed.flows, report, wake)
        scheduling = Scheduling(client, server_clock, pictures, report, wake, stands_in=settings.stands_in)
        starts = FlowStarts(client, flow_feed, server_clock, report, wake, stands_in=settings.stands_in)
        ends = FlowEnds(client, flow_feed, server_clock, report, wake, is_asked=cancellation.is_requested)
        self._moving: list[Part] = [promotion, cancellation, scheduling, starts, ends]
        watched: tuple[FolderPart | FlowFeed, ...] = (promotion, cancellation, scheduling, flow_feed)
        self._watching: tuple[Feed | FolderPart | FlowFeed, ...] = (self._feed, *watched)
        lost_steps = LostSteps(client, pictures, flow_feed.flows, report, settings.recount_seconds)
        self._steps: list[Part | Recount | LostSteps] = [*self._moving, lost_steps]
        if not settings.stands_in:
            list_again = self._feed.list_again
            dispatch = Dispatch(
                client,
                dispatcher,
                server_clock,
                recovery=Recovery(settings.max_deliveries),
                report=report,
                wake=wake,
                list_again=list_again,
            )
            self._moving.append(dispatch)
            self._steps += [Recount(client, dispatcher, wake, list_again, settings.recount_seconds), dispatch]

    async def run(self) -> None:
        """Serve until the session is over. Raise SessionExpired then, or what makes it impossible to go on."""
        for part in self._watching:
            part.start()
        while True:
            await self._wait()
            await self._restore_folders()
            for step in self._steps:
                step.step()

    def take_census(self) -> Census | None:
        """Count tasks, workers and slots; None while the picture may be old."""
        if not (self._dispatcher.is_current and self._flows.is_current):
            return None
        census = self._dispatcher.take_census(self._delayed.count_by_queue())
        return msgspec.structs.replace(census, flows=self._flows.running)

    async def stop(self) -> None:
        """Watch nothing from here on. Call it after `run`, where the session goes on."""
        for part in self._watching:
            await part.stop()

    async def _restore_folders(self) -> None:
        parts: list[Feed | Part] = [self._feed, *self._moving]
        if any(part.is_folder_missing for part in parts):
            for part in parts:
                part.is_folder_missing = False
            await restore_folders(self._client)

    async def _wait(self) -> None:
        """Wait for news, or for the time of something postponed."""
        for part in self._watching:
            if part.fault is not None:
                raise part.fault
        if self._client.state.is_final:
            raise errors.SessionExpired("the primary's session ended")
        times = [step.next_wakeup() for step in self._steps]
        wakeup = min((time for time in times if time is not None), default=None)
        try:
            async with asyncio.timeout(None if wakeup is None else max(wakeup - self._clock(), 0.01)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()
