"""A master: primary or backup, in one session after another until it is told to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing

import msgspec

from herdmaster.core import layout
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.census import Census
from herdmaster.core.dispatcher import ORPHAN_INBOX_SECONDS
from herdmaster.core.history_recorder import Recorder
from herdmaster.core.members import MasterRecord, encode_record
from herdmaster.core.names import master_name
from herdmaster.core.recovery import MAX_DELIVERIES
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.overdue import Overdue, Patience
from herdmaster.roles.primary.primary import Primary, PrimarySettings
from herdmaster.roles.primary.recount import RECOUNT_SECONDS
from herdmaster.roles.primary.stand_in import StandIn
from herdmaster.roles.primary.sweeper import Ages, Sweeper
from herdmaster.roles.shared.history_writer import HistoryWriter
from herdmaster.roles.shared.role import Role, run_until_first
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.recipes.election import Election
from herdmaster.zookeeper.recipes.membership import join_group, wait_member_lost
from herdmaster.zookeeper.recipes.server_time import ServerTime

_log = logging.getLogger("herdmaster.master")


class MasterSettings(msgspec.Struct, frozen=True):
    """All times in seconds."""

    session_timeout: float = 10.0
    connect_timeout: float | None = 30.0
    max_deliveries: int = MAX_DELIVERIES
    orphan_inbox_seconds: float = ORPHAN_INBOX_SECONDS
    ages: Ages = Ages()
    recount_seconds: float = RECOUNT_SECONDS
    patience: Patience = Patience()


class Master(Role):
    """A master process. `run` serves until `stop`, which ends the session, so that a backup takes over at once."""

    def __init__(self, hosts: str, settings: MasterSettings | None = None, system: System | None = None) -> None:
        super().__init__("master", hosts, system)
        self._settings = settings or MasterSettings()
        self.task_ended: Callable[[AttemptEnd], object] | None = None
        """Called for each task that this master has ended, once that is committed. Returns at once, raises nothing."""
        self.is_primary = False
        self._primary: Primary | None = None
        self._recorder = Recorder(self.kind, self.system.host, self.system.unix_ms(), pid=self.system.pid)
        self._time = ServerTime(self.system.clock, self.system.unix_ms)
        self._history = HistoryWriter(self._recorder, self.system, self._server_ms, self._count_backlog)

    def take_census(self) -> Census | None:
        """Count tasks, workers and slots, as the primary; None on a backup, and while the picture may be old."""
        return self._primary.take_census() if self._primary is not None else None

    def _server_ms(self) -> int:
        return self._time.now_ms()

    def _count_backlog(self) -> dict[str, int] | None:
        census = self.take_census()
        return None if census is None else census.waiting

    def _make_log(self) -> PrimaryLog:
        return PrimaryLog(self.system, self._report)

    def _report(self, end: AttemptEnd) -> None:
        self._recorder.attempt_ended(end)
        self.system.instruments.attempt_ended(end)
        if self.task_ended is not None:
            self.task_ended(end)

    def meanwhile(self) -> str:
        return "nothing is decided until it is back" if self.is_primary else "it cannot take over until it is back"

    async def open(self) -> Client:
        settings = self._settings
        return await self.open_session(settings.session_timeout, settings.connect_timeout, is_founder=True)

    async def drain(self, client: Client) -> None:
        """Write what this master ended since the last batch of the history."""
        await self._history.finish(client)

    async def serve(self, client: Client) -> None:
        """Serve one session: join `/masters`, compete for `/master`, and be primary once this session owns it."""
        system = self.system
        name = self._recorder.writer = master_name(system.new_id())
        data = encode_record(MasterRecord(name, system.host, system.pid, system.unix_ms()))
        record = layout.master_record_path(name)
        await join_group(client, record, data)
        await self._learn_time(client, record)
        election = Election(client, layout.MASTER, data)
        stand_in = StandIn(client, record)
        server_clock = ServerClock(client, record, data, system.unix_ms)
        try:
            await run_until_first(
                self._compete(client, election, name, server_clock),
                self._stand_in(client, stand_in, server_clock),
                Sweeper(client, stand_in, server_clock, self._settings.ages).run(),
                wait_member_lost(client, record),
                self._history.run(client),
            )
        finally:
            self.is_primary = False
            self._primary = None

    async def _learn_time(self, client: Client, record: str) -> None:
        """Read the servers' time for the history from a znode that was created just now."""
        self._time = ServerTime(client.clock, self.system.unix_ms)
        stat = await client.exists(record)
        if stat is not None:
            self._time.synchronize(stat.ctime)

    async def _compete(self, client: Client, election: Election, name: str, server_clock: ServerClock) -> None:
        standing_by = False

        def on_standby() -> None:
            nonlocal standing_by
            if not standing_by:
                standing_by = True
                _log.info("standing by: another master is primary")

        await election.wait_elected(on_standby)
        self.is_primary = True
        _log.info("elected: %s is primary", name)
        with closing(self._make_log()) as report:
            primary = Primary(client, server_clock, report, self._primary_settings(stands_in=False))
            self._primary = primary
            await run_until_first(primary.run(), election.wait_lost())
        _log.warning("/master is gone although the session is alive: starting again with a new session")

    async def _stand_in(self, client: Client, stand_in: StandIn, server_clock: ServerClock) -> None:
        while True:
            await stand_in.wait(wanted=True)
            _log.info("the primary is a reference program: standing in for what it does not do")
            with closing(self._make_log()) as report:
                primary = Primary(client, server_clock, report, self._primary_settings(stands_in=True))
                overdue = Overdue(client, server_clock, report, self._settings.patience, self._settings.max_deliveries)
                await run_until_first(primary.run(), overdue.run(), stand_in.wait(wanted=False))
            _log.info("no longer standing in")
            await primary.stop()

    def _primary_settings(self, *, stands_in: bool) -> PrimarySettings:
        settings = self._settings
        return PrimarySettings(
            settings.max_deliveries, settings.orphan_inbox_seconds, stands_in, settings.recount_seconds
        )
