"""Commits moves, many in one transaction, and sorts out a refused one.

A batch fails as a whole. Then the move that caused it, and those that share its cause, are answered with the verdict of
the transition table. The others are sent again: first as a batch, after a second failure one by one.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from herdmaster.core.transitions import (
    CheckNode,
    CreateNode,
    DeleteNode,
    Failure,
    Move,
    Operation,
    SetNode,
    Verdict,
    verdict,
)
from herdmaster.roles.shared.lacked_rights import LackedRights
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Results, Transaction
from herdmaster.zookeeper.paths import parent_of

MAX_BATCH_BYTES: Final = 128 * 1024
"""ZooKeeper keeps its last 500 transactions in memory, for followers that have fallen behind."""
MAX_BATCH_MOVES: Final = 200

_log = logging.getLogger("herdmaster")


class Fate(enum.Enum):
    """What is known of a move after its transaction."""

    COMMITTED = "committed"
    REFUSED = "refused"  # nothing of it was applied; a verdict says why
    UNKNOWN = "unknown"  # the connection was lost: it may have been applied
    SESSION_OVER = "session over"


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What became of a move. `path` is that of the operation that ZooKeeper refused, of this move or of another one for
    the same cause."""

    move: Move
    fate: Fate
    verdict: Verdict | None = None
    path: str = ""


Settled = Callable[[Settlement], None]


class _Batch:
    """The operations of several moves. A check of any version that several moves share is made once."""

    def __init__(self, moves: list[Move], settled: Settled, failures: int) -> None:
        self.moves = moves
        self.settled = settled
        self.failures = failures
        self.operations: list[Operation] = []
        self._first: list[int] = []  # by move: the place of its first operation
        shared: set[str] = set()
        for move in moves:
            self._first.append(len(self.operations))
            for operation in move.operations:
                if isinstance(operation, CheckNode) and operation.version == -1:
                    if operation.path in shared:
                        continue
                    shared.add(operation.path)
                self.operations.append(operation)

    def owners(self, place: int) -> list[tuple[Move, int]]:
        """Return the moves that an operation belongs to, each with its place in them."""
        cause = self.operations[place]
        if not (isinstance(cause, CheckNode) and cause.version == -1):
            move = self.moves[bisect_right(self._first, place) - 1]
            return [(move, next(index for index, each in enumerate(move.operations) if each is cause))]
        return [(move, index) for move in self.moves for index, each in enumerate(move.operations) if each == cause]


class Committer:
    """Commits the moves of one role. `settled` is called once per move, in the order of the wire."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._namespace = len(client.hosts.chroot.prefix)
        self._lacked = LackedRights()

    def commit(self, moves: Iterable[Move], settled: Settled) -> None:
        """Send the moves at once, in as few transactions as possible. A task may have at most one move under way."""
        batch: list[Move] = []
        size = 0
        acl = self._client.acl_size
        for move in moves:
            cost = move.size(self._namespace, acl)
            if batch and (size + cost > MAX_BATCH_BYTES or len(batch) >= MAX_BATCH_MOVES):
                self._send(_Batch(batch, settled, 0))
                batch, size = [], 0
            batch.append(move)
            size += cost
        if batch:
            self._send(_Batch(batch, settled, 0))

    def _send(self, batch: _Batch) -> None:
        transaction = self._client.transaction()
        for operation in batch.operations:
            add_operation(transaction, operation)

        def done(_results: Results | None, error: Exception | None) -> None:
            self._done(batch, error)

        try:
            transaction.commit_nowait(done)
        except errors.ZooKeeperError as error:
            self._done(batch, error)

    def _done(self, batch: _Batch, error: Exception | None) -> None:
        if error is None:
            self._settle(batch, batch.moves, Fate.COMMITTED)
        elif isinstance(error, errors.TransactionFailed):
            self._refused(batch, error)
        elif isinstance(error, errors.ConnectionLoss):
            self._settle(batch, batch.moves, Fate.UNKNOWN)
        elif isinstance(error, (errors.SessionExpired, errors.AuthenticationFailed)):
            self._settle(batch, batch.moves, Fate.SESSION_OVER)
        elif len(batch.moves) > 1:
            self._send_again(batch, batch.moves, singly=True)
        else:
            _log.error("%s of %s cannot be sent: %s", batch.moves[0].transition, batch.moves[0].task, error)
            self._settle(batch, batch.moves, Fate.REFUSED, Verdict.UNEXPECTED)

    def _refused(self, batch: _Batch, error: errors.TransactionFailed) -> None:
        failure = Failure(type(error.error).__name__)
        culprits = {id(move): verdict(move, index, failure) for move, index in batch.owners(error.index)}
        cause = batch.operations[error.index]
        first = next(iter(culprits.values()))
        rest: list[Move] = []
        for move in batch.moves:
            found = culprits.get(id(move))
            if found is None and _shares_cause(move, cause, error.error):
                found = first
            if found is None:
                rest.append(move)
            else:
                if found is Verdict.UNEXPECTED and self._lacked.is_news(error):
                    _log.error("%s of %s was refused: %s", move.transition, move.task, error)
                batch.settled(Settlement(move, Fate.REFUSED, found, cause.path))
        if rest:
            self._send_again(batch, rest, singly=batch.failures > 0)

    def _send_again(self, batch: _Batch, moves: list[Move], *, singly: bool) -> None:
        for group in [[move] for move in moves] if singly else [moves]:
            self._send(_Batch(group, batch.settled, batch.failures + 1))

    def _settle(self, batch: _Batch, moves: list[Move], fate: Fate, found: Verdict | None = None) -> None:
        for move in moves:
            batch.settled(Settlement(move, fate, found))


class Gathering:
    """Collects moves that follow from replies: those of one turn of the loop are committed together."""

    def __init__(self, commit: Callable[[list[Move]], None]) -> None:
        self._commit = commit
        self._moves: list[Move] = []

    def add(self, move: Move) -> None:
        if not self._moves:
            asyncio.get_running_loop().call_soon(self._flush)
        self._moves.append(move)

    def _flush(self) -> None:
        moves, self._moves = self._moves, []
        self._commit(moves)


def _shares_cause(move: Move, cause: Operation, error: errors.ServerError) -> bool:
    """Return whether the move fails for the same cause: a missing folder, or the lack of a right on it, refuses every
    create in it, and the lack of the other right every delete."""
    if isinstance(error, errors.NoNode) and isinstance(cause, CreateNode):
        kind: type[Operation] = CreateNode
    elif isinstance(error, errors.NoAuth) and isinstance(cause, (CreateNode, DeleteNode)):
        kind = type(cause)
    else:
        return False
    folder = parent_of(cause.path)
    return any(isinstance(other, kind) and parent_of(other.path) == folder for other in move.operations)


def add_operation(transaction: Transaction, operation: Operation) -> None:
    match operation:
        case DeleteNode(path, version):
            transaction.delete(path, version)
        case CreateNode(path, data):
            transaction.create(path, data)
        case CheckNode(path, version):
            transaction.check(path, version)
        case SetNode(path, data, version):
            transaction.set(path, data, version)
