"""What a server remembers: znodes, sessions and the counter of transactions. Watches, connections and clocks are not
part of it: they end with the process."""

from __future__ import annotations

from herdmaster.zookeeper.errors import ZooKeeperError
from herdmaster.zookeeper.server.effects import Effect, NodeDeleted, SessionClosed, SessionOpened, Transaction
from herdmaster.zookeeper.server.sessions import Sessions
from herdmaster.zookeeper.server.tree import Change, Tree


class ReplayGap(ZooKeeperError):
    """A transaction does not follow the one before it."""


class State:
    """The state of a server. `zxid` is the newest transaction that the tree and the sessions show."""

    def __init__(self, tick: int, next_session_id: int, zxid: int = 0) -> None:
        self.tree = Tree()
        self.sessions = Sessions(tick, next_session_id)
        self.zxid = zxid

    def apply(self, effect: Effect, zxid: int, time: int) -> tuple[Change, ...]:
        """Apply an effect. Return the changes that watchers should be told of."""
        if isinstance(effect, SessionOpened):
            self.sessions.open(effect.session_id, effect.timeout)
            return ()
        if isinstance(effect, SessionClosed):
            paths = self.tree.ephemerals_of(effect.session_id)
            self.sessions.close(effect.session_id)
            changes = [self.tree.apply(NodeDeleted(path), zxid, time) for path in paths]
            return tuple(change for change in changes if change is not None)
        change = self.tree.apply(effect, zxid, time)
        return () if change is None else (change,)

    def replay(self, transaction: Transaction) -> None:
        """Apply a transaction of the journal. Raises ReplayGap, before anything is changed, if one is missing."""
        if transaction.zxid != self.zxid + 1:
            raise ReplayGap(f"transaction 0x{transaction.zxid:x} follows 0x{self.zxid:x}")
        for effect in transaction.effects:
            self.apply(effect, transaction.zxid, transaction.time)
        self.zxid = transaction.zxid
