"""What tests of the journal share."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.server.effects import NodeCreated, Transaction
from herdmaster.zookeeper.server.journal import Journal
from herdmaster.zookeeper.server.snapshots import snapshot_of
from herdmaster.zookeeper.server.state import State

SECRET = b"s" * 32
FIRST = 100


def entropy() -> Callable[[int], bytes]:
    """Bytes that are never the same twice, and the same in every run."""
    counter = itertools.count()
    return lambda length: hashlib.sha256(str(next(counter)).encode()).digest()[:length]


def journal_in(folder: Path) -> Journal:
    return Journal(folder, entropy(), 1 << 20)


def fresh() -> State:
    return State(100, 1, FIRST)


def transaction(zxid: int, data: bytes = b"data") -> Transaction:
    return Transaction(zxid, 1000 + zxid, (NodeCreated(f"/n{zxid}", data, OPEN_ACL),))


def write(folder: Path, *batches: list[Transaction]) -> None:
    journal = journal_in(folder)
    journal.open(fresh(), SECRET)
    for batch in batches:
        journal.append(batch)
    journal.close()


def load(folder: Path) -> State:
    journal = journal_in(folder)
    try:
        return journal.open(fresh(), b"another secret")[0]
    finally:
        journal.close()


def names(state: State) -> list[str]:
    return [path for path, _ in state.tree.items() if path.startswith("/n")]


def the_log(folder: Path) -> Path:
    """The newest log."""
    return max(folder.glob("log.*"))


def shape(state: State) -> tuple[object, ...]:
    """Everything that a restart has to bring back."""
    snapshot = snapshot_of(state, b"")
    return snapshot.heading.zxid, snapshot.heading.sessions, snapshot.nodes
