"""A server of the ensemble that lags behind the leader.

Its clients read from a tree that is some transactions behind, and get their events from it. What they write goes to the
leader, and is answered once the follower shows it, so each session sees its own writes. A sync waits for all that the
leader has done.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from herdmaster.zookeeper.server.authentication import Authentication
from herdmaster.zookeeper.server.connection import Connection
from herdmaster.zookeeper.server.effects import Transaction
from herdmaster.zookeeper.server.requests import Requests
from herdmaster.zookeeper.server.settings import Settings
from herdmaster.zookeeper.server.snapshots import restore, snapshot_of
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.server.transactions import Actor
from herdmaster.zookeeper.server.watches import Watches
from herdmaster.zookeeper.server.writes import Outbox, Writes
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.multi import Multi, MultiReply, WriteOperation
from herdmaster.zookeeper.wire.records import Record, Request

_NO_SECRET: Final = b""


class Follower:
    """A server that applies each transaction `lag` seconds after the leader. It begins with the leader's `state`.

    `leader` makes the leader's transactions. `outbox` is shared with the leader, so that nothing leaves before it is on
    disk.
    """

    def __init__(self, lag: float, state: State, tick: int, leader: Writes, outbox: Outbox) -> None:
        self.lag = lag
        self.watches: Watches[Connection] = Watches()
        self._leader = leader
        self._state = restore(snapshot_of(state, _NO_SECRET), tick, 0)
        self._pending: deque[tuple[float, Transaction]] = deque()
        self._applier = _Applier(self._state, self.watches, outbox, Settings(), recording=False)
        forwarded = _ForwardedWrites(self._state, self.watches, outbox, self)
        self._requests = Requests(self._state, self.watches, outbox, forwarded, Authentication(Settings(), _NO_SECRET))

    @property
    def zxid(self) -> int:
        return self._state.zxid

    @property
    def leader(self) -> Writes:
        return self._leader

    def apply(self, connection: Connection, xid: int, request: Request[Record], unix_ms: int) -> bool:
        """Handle a request. Return False if the connection ends with it."""
        if isinstance(request, records.Sync):
            self.catch_up()
        return self._requests.apply(connection, xid, request, unix_ms)

    def learn(self, transaction: Transaction, now: float) -> None:
        """Take a transaction of the leader, to be applied later."""
        if transaction.zxid > self.zxid:
            self._pending.append((now + self.lag, transaction))

    def next_due(self) -> float | None:
        """Return when the next transaction is to be applied."""
        return self._pending[0][0] if self._pending else None

    def follow(self, now: float) -> None:
        """Apply what is due, with the events of watches."""
        while self._pending and self._pending[0][0] <= now:
            self._applier.replay(self._pending.popleft()[1])

    def catch_up(self) -> None:
        """Apply everything that the leader has done."""
        while self._pending:
            self._applier.replay(self._pending.popleft()[1])
        for transaction in self._leader.recorded:
            self._applier.replay(transaction)


class _Applier(Writes):
    """Applies transactions of the leader."""

    def replay(self, transaction: Transaction) -> None:
        if transaction.zxid <= self._state.zxid:
            return
        for effect in transaction.effects:
            self._apply(effect, transaction.zxid, transaction.time)
        self._finish(transaction.zxid, transaction.time, transaction.effects)


class _ForwardedWrites(Writes):
    """The writes of a follower's clients: the leader makes the transactions, and the follower applies them before the
    reply."""

    def __init__(self, state: State, watches: Watches[Connection], outbox: Outbox, follower: Follower) -> None:
        super().__init__(state, watches, outbox, Settings(), recording=False)
        self._follower = follower

    def write(self, actor: Actor, request: WriteOperation | records.SetAcl, time: int) -> records.Record:
        try:
            return self._follower.leader.write(actor, request, time)
        finally:
            self._follower.catch_up()

    def multi(self, actor: Actor, request: Multi, time: int) -> MultiReply:
        try:
            return self._follower.leader.multi(actor, request, time)
        finally:
            self._follower.catch_up()

    def close_session(self, session_id: int, time: int) -> None:
        self._follower.leader.close_session(session_id, time)
        self._follower.catch_up()
