"""The input and output of a session: requests under way, and events."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.presented import Presented
from herdmaster.zookeeper.client.refusals import refusal
from herdmaster.zookeeper.client.watches import Watcher, WatchRegistry, WatchTable
from herdmaster.zookeeper.model import SessionState, WatchEvent
from herdmaster.zookeeper.wire.framing import MAX_FRAME
from herdmaster.zookeeper.wire.records import Record, Request

HEADER: Final = struct.Struct(">iii")
"""The frame's length, the xid, the operation."""

_XID = struct.Struct(">i")
_XID_OFFSET: Final = 4

Done = Callable[[Record | None, Exception | None], None]
"""Called once with a reply or an error, in the order of the wire."""


class Arm(msgspec.Struct, frozen=True):
    """A watch that becomes armed when its request succeeds (for EXIST also when the answer is `no node`)."""

    table: WatchTable
    path: str
    watcher: Watcher

    def take_effect(self, watches: WatchRegistry, code: int) -> None:
        """Arm the watch if a request with this error code, 0 for none, has armed it on the server."""
        if code == 0:
            # An exists-watch of a znode that exists is kept as a data watch: in the exist list of setWatches it would
            # fire at once, and stay silent if the znode went meanwhile.
            table = WatchTable.DATA if self.table is WatchTable.EXIST else self.table
            watches.add(table, self.path, self.watcher)
        elif code == errors.NoNode.code and self.table is WatchTable.EXIST:
            watches.add(WatchTable.EXIST, self.path, self.watcher)


def _never() -> bool:
    return False


class Pending:
    """A request from its call to its reply. `xid` is 0 until it has left, negative in the preface.

    `is_cancelled` says whether the caller has gone: then the request does not leave any more, and arms nothing.
    """

    __slots__ = ("arm", "done", "frame", "is_cancelled", "request", "retry", "sent_at", "xid")

    def __init__(
        self,
        request: Request[Record],
        done: Done,
        *,
        retry: bool = False,
        arm: Arm | None = None,
        is_cancelled: Callable[[], bool] = _never,
    ) -> None:
        """Raises RequestTooLarge for a request that no server would take (it would cost the connection), ValueError for
        a number that the wire cannot carry."""
        frame = bytearray(HEADER.size)
        try:
            request.write(frame)
        except struct.error:
            raise ValueError(f"a number of this {type(request).__name__} does not fit the protocol") from None
        size = len(frame) - 4
        if size > MAX_FRAME:
            raise errors.RequestTooLarge(f"a request of {size} bytes: the limit of a frame is {MAX_FRAME}")
        HEADER.pack_into(frame, 0, size, 0, request.opcode)
        self.frame = frame
        self.request = request
        self.done = done
        self.retry = retry
        self.arm = arm
        self.xid = 0
        self.sent_at = 0.0
        self.is_cancelled = is_cancelled

    @classmethod
    def for_preface(cls, request: Request[Record], xid: int) -> Pending:
        """Return a request of the session itself, which begins a connection and goes with it."""
        pending = cls(request, lambda _reply, _error: None)
        pending.xid = xid
        return pending

    @property
    def is_moot(self) -> bool:
        """Whether no caller waits for it: it belongs to a connection's preface, or its caller has gone."""
        return self.xid < 0 or self.is_cancelled()

    def loss(self) -> errors.ConnectionLoss:
        """Return the error to raise when its connection is lost."""
        name = type(self.request).__name__
        return errors.ConnectionLoss(f"the connection was lost after a {name} had been sent: it may be applied")

    def refusal(self, code: int, path: str, presented: Presented) -> errors.ServerError:
        """Return the error for the code of the reply, as `refusals.refusal`."""
        return refusal(code, self.request, path, presented)

    def stamp(self, xid: int, now: float) -> bytearray:
        """Return the frame to send, with this xid."""
        self.xid = xid
        self.sent_at = now
        _XID.pack_into(self.frame, _XID_OFFSET, xid)
        return self.frame


def disarm(arm: Arm, watches: WatchRegistry, pendings: Iterable[Pending]) -> bool:
    """Forget a watch, armed or on its way. Return True if the server may forget it, too: nothing else watches the path,
    and the server removes all watches of a path at once."""
    known = watches.remove(arm.table, arm.path, arm.watcher)
    shared = watches.holds(arm.path)
    for pending in pendings:
        if pending.arm == arm:
            pending.arm = None
            known = True
        elif pending.arm is not None and pending.arm.path == arm.path:
            shared = True
    return known and not shared


def final_error(state: SessionState, refusal: errors.ZooKeeperError | None) -> errors.ZooKeeperError:
    """Return the error to raise when a session is over. `refusal` is why its authentication has failed."""
    if refusal is not None:
        return type(refusal)(str(refusal))  # another object: each is raised somewhere else
    if state is SessionState.CLOSED:
        return errors.ClientClosed("the client is closed")
    return errors.SessionExpired("the session expired; it takes a new client object to go on")


class Completed(msgspec.Struct, frozen=True, gc=False):
    """A request has its reply, or its error."""

    pending: Pending
    reply: Record | None
    error: Exception | None


class Fired(msgspec.Struct, frozen=True, gc=False):
    """A watch fired."""

    watchers: Sequence[Watcher]
    event: WatchEvent


class StateChanged(msgspec.Struct, frozen=True):
    state: SessionState


class Accepted(msgspec.Struct, frozen=True):
    """The server has the session; the caller must authenticate by SASL before anything else leaves."""


class DropConnection(msgspec.Struct, frozen=True):
    """The caller must close the connection and then call `connection_lost`."""

    reason: str


Event = Completed | Fired | StateChanged | Accepted | DropConnection
