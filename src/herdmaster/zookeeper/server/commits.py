"""Group commit: replies leave when the writes that they show are on disk.

While one fsync runs, in a thread of its own, the machine goes on; what it does meanwhile makes up the next one.
Everything leaves in the order in which it was made, including reads and events, which may show a write that is not on
disk yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from herdmaster.zookeeper.server.effects import Transaction
from herdmaster.zookeeper.server.journal import Journal
from herdmaster.zookeeper.server.link import Link
from herdmaster.zookeeper.server.snapshots import Snapshot

_MAX_WAITING: Final = 32 << 20


class Output(NamedTuple):
    """What one link is to be sent. `arrivals`: how many of the answered requests came when."""

    link: Link
    data: bytes
    close: bool
    arrivals: Mapping[int, int]


class Commits:
    """The pipeline between the machine, the journal and the links. `take_snapshot` returns the state as it is at the
    call, and the transactions that it shows but that were not submitted yet. `deliver` sends, `fail` is called when the
    disk takes no more."""

    def __init__(
        self,
        journal: Journal,
        loop: asyncio.AbstractEventLoop,
        take_snapshot: Callable[[], tuple[Snapshot, list[Transaction]]],
        *,
        deliver: Callable[[Sequence[Output]], None],
        fail: Callable[[BaseException], None],
        wake: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._loop = loop
        self._take_snapshot = take_snapshot
        self._deliver = deliver
        self._fail = fail
        self._wake = wake
        self._writer = ThreadPoolExecutor(1, "herd-journal")
        self._archivist = ThreadPoolExecutor(1, "herd-snapshot")
        self._outputs: list[Output] = []
        self._transactions: list[Transaction] = []
        self._waiting = 0
        self._commit: asyncio.Future[None] | asyncio.Future[bool] | None = None
        self._archiving: asyncio.Future[None] | None = None
        self._has_failed = False

    @property
    def is_full(self) -> bool:
        """Whether requests should wait until the disk has caught up."""
        return self._waiting > _MAX_WAITING

    def submit(self, outputs: Sequence[Output], transactions: Sequence[Transaction], received: int) -> None:
        """Send the outputs once the transactions are on disk. `received`: the bytes of the requests behind the
        transactions, roughly the memory that they hold."""
        if self._has_failed:
            return
        if self._commit is None and not transactions:
            self._deliver(outputs)
            return
        self._outputs += outputs
        self._transactions += transactions
        self._waiting += received
        if self._commit is None:
            self._begin()

    async def close(self) -> None:
        """Wait until everything submitted is on disk and delivered, unless the disk failed."""
        while self._commit is not None or self._archiving is not None:
            pending = {each for each in (self._commit, self._archiving) if each is not None}
            await asyncio.wait(pending)
            # The callbacks that begin the next round run in the turn after a future is done.
            await asyncio.sleep(0)
        self._writer.shutdown()
        self._archivist.shutdown()

    def _begin(self) -> None:
        outputs, self._outputs = self._outputs, []
        transactions, self._transactions = self._transactions, []
        self._waiting = 0
        appending = self._loop.run_in_executor(self._writer, self._journal.append, transactions)
        self._commit = appending
        appending.add_done_callback(lambda done: self._finish(done, outputs))

    def _finish(self, done: asyncio.Future[None] | asyncio.Future[bool], outputs: list[Output]) -> None:
        self._commit = None
        if not self._succeeded(done):
            return
        self._deliver(outputs)
        if self._journal.is_long and self._archiving is None:
            self._begin_snapshot()
        elif self._transactions:
            self._begin()
        elif self._outputs:
            rest, self._outputs = self._outputs, []
            self._deliver(rest)
        self._wake()

    def _begin_snapshot(self) -> None:
        """Write a snapshot. The state is ahead of the journal by the transactions that wait here and those that were
        not submitted yet. All of these go into the old file before a new one begins, so that the snapshot replaces
        exactly the old files."""
        snapshot, unsubmitted = self._take_snapshot()
        outputs, self._outputs = self._outputs, []
        transactions, self._transactions = self._transactions + unsubmitted, []
        self._waiting = 0
        rotating = self._loop.run_in_executor(
            self._writer, self._journal.append_and_rotate, transactions, snapshot.zxid
        )
        self._commit = rotating
        rotating.add_done_callback(lambda done: self._finish(done, outputs))
        rotating.add_done_callback(lambda done: self._archive(done, snapshot))

    def _archive(self, done: asyncio.Future[bool], snapshot: Snapshot) -> None:
        if done.exception() is not None or self._has_failed or not done.result():
            return
        self._archiving = self._loop.run_in_executor(self._archivist, self._journal.archive, snapshot)
        self._archiving.add_done_callback(self._archived)

    def _archived(self, done: asyncio.Future[None]) -> None:
        self._archiving = None
        self._succeeded(done)

    def _succeeded(self, done: asyncio.Future[None] | asyncio.Future[bool]) -> bool:
        error = done.exception()
        if error is None:
            return not self._has_failed
        # Nothing that waits may be acknowledged any more: it is not on disk, and may never be.
        self._outputs, self._transactions = [], []
        if not self._has_failed:
            self._has_failed = True
            self._fail(error)
        return False
