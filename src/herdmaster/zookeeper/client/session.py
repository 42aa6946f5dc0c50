"""One ZooKeeper session without I/O: bytes and times go in, bytes and events come out.

The shell (`connection.py`) owns the socket and the clock. It tells of connections made and lost, passes what it
received, sends what `take_output` gives, and calls `tick` at `next_tick`. Every method takes `now` in seconds of a
clock that never goes back and that runs on while the machine is suspended.

What decides about a request that was under way when the connection went: it had not left, then it waits for the next
connection; it had left and is a read, then it is asked again; else it raises ConnectionLoss, because only the caller
knows how to find out whether it was applied.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.watches import Watcher, WatchRegistry, WatchTable
from herdmaster.zookeeper.model import ClientId, EventType, SessionState, WatchEvent
from herdmaster.zookeeper.paths import Chroot
from herdmaster.zookeeper.wire.framing import (
    MAX_FRAME,
    ConnectRequest,
    ConnectResponse,
    Framer,
    decode_event,
    decode_reply_header,
    reply_body,
)
from herdmaster.zookeeper.wire.opcodes import MAX_XID, XID_AUTH, XID_EVENT, XID_PING, XID_SET_WATCHES, OpCode
from herdmaster.zookeeper.wire.records import Auth, CloseSession, Record, Request

RECEIVE_LIMIT: Final = 256 * 1024 * 1024
"""The server limits what it receives, not what it sends: a listing of a long folder is larger than jute.maxbuffer."""

_HEADER = struct.Struct(">iii")
_PING: Final = _HEADER.pack(8, XID_PING, OpCode.PING)
_NO_NODE: Final = errors.NoNode.code
_EVENT_TYPES: Final = {int(kind): kind for kind in EventType}

Done = Callable[[Record | None, Exception | None], None]
"""Called once with a reply or an error, in the order of the wire."""


class Arm(msgspec.Struct, frozen=True):
    """A watch that becomes armed when its request succeeds (for EXIST also when the answer is `no node`)."""

    table: WatchTable
    path: str
    watcher: Watcher


class Pending:
    """A request on its way, from the call to its reply."""

    __slots__ = ("arm", "body", "cancelled", "done", "request", "retry", "sent_at", "xid")

    def __init__(self, request: Request[Record], done: Done, *, retry: bool = False, arm: Arm | None = None) -> None:
        """Raises RequestTooLarge for what no server would take: sent, it would cost the connection."""
        body = bytearray()
        request.write(body)
        if len(body) + 8 > MAX_FRAME:
            raise errors.RequestTooLarge(f"a request of {len(body) + 8} bytes: the limit of a frame is {MAX_FRAME}")
        self.request = request
        self.body = body
        self.done = done
        self.retry = retry
        self.arm = arm
        self.xid = 0
        self.sent_at = 0.0
        self.cancelled = False


class Completed(msgspec.Struct, frozen=True, gc=False):
    """A request has its reply, or its error."""

    pending: Pending
    reply: Record | None
    error: Exception | None


class Fired(msgspec.Struct, frozen=True, gc=False):
    """A watch fired."""

    watchers: list[Watcher]
    event: WatchEvent


class StateChanged(msgspec.Struct, frozen=True):
    state: SessionState


class DropConnection(msgspec.Struct, frozen=True):
    """The shell must close the connection and then call `connection_lost`."""

    reason: str


Event = Completed | Fired | StateChanged | DropConnection


class Session:
    """The state of one session; see the module's theory."""

    def __init__(
        self, *, timeout: float, connect_timeout: float, chroot: Chroot, credentials: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        self.state = SessionState.CONNECTING
        self.timeout = timeout  # the requested one until a server has negotiated
        self.client_id: ClientId | None = None
        self.last_zxid = 0
        self.watches = WatchRegistry()
        self.paused = False  # set by the shell while the socket takes no more
        self._chroot = chroot
        self._requested_timeout = timeout
        self._connect_timeout = connect_timeout
        self._credentials = list(credentials)
        self._framer = Framer(RECEIVE_LIMIT)
        self._queue: deque[Pending] = deque()
        self._in_flight: deque[Pending] = deque()
        self._handshake: bytes | None = None  # the connect request, until it is taken
        self._attached = False  # the handshake of the present connection is done
        self._connected_at: float | None = None  # the connection attempt whose handshake is not done
        self._heard_at = 0.0
        self._sent_at = 0.0
        self._answered_at = 0.0  # when the newest answered request was sent
        self._ping_sent_at: float | None = None
        self._last_xid = 0

    # --- questions -----------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """Until when the session is certainly alive on the server: its clock starts when a request arrives, which is
        never before it was sent."""
        return self._answered_at + self.timeout

    @property
    def has_output(self) -> bool:
        return self._handshake is not None or (self._attached and not self.paused and bool(self._queue))

    @property
    def unsent(self) -> int:
        return len(self._queue)

    def next_tick(self) -> float | None:
        """When `tick` has something to decide, None while only a connection attempt is going on."""
        if self.state.is_final:
            return None
        if self.state is SessionState.CONNECTED:
            drop = self._heard_at + self.timeout * 2 / 3
            return drop if self._ping_sent_at is not None else min(drop, self._sent_at + self.timeout / 3)
        times = []
        if self._connected_at is not None:
            times.append(self._connected_at + self._connect_timeout)
        if self.client_id is not None:
            times.append(self._lapses_at())
        return min(times, default=None)

    def _lapses_at(self) -> float:
        # ZOOKEEPER-4508: a client that reaches no server must find out by itself. 4T/3 is the official client's rule.
        return self._heard_at + self.timeout * 4 / 3

    def _is_over(self) -> bool:
        return self.state.is_final

    # --- what the caller wants -----------------------------------------------------------------------------------

    def enqueue(self, pending: Pending) -> None:
        """Raises the session's final error when it is over."""
        if self.state.is_final:
            raise self._final_error()
        self._queue.append(pending)

    def add_credential(self, scheme: str, credential: bytes, done: Done) -> None:
        """Authenticates now, and again on every later connection: ZooKeeper keeps it per connection."""
        self.enqueue(Pending(Auth(0, scheme, credential), done, retry=True))
        self._credentials.append((scheme, credential))

    def close(self, done: Done) -> list[Event]:
        """Ends the session. Connected, it asks the server and ends with its reply; else the session just lapses."""
        if self.state is SessionState.CONNECTED:
            self._queue.append(Pending(CloseSession(), done))
            return []
        events = [] if self.state.is_final else self._end(SessionState.CLOSED)
        done(None, None)
        return events

    def abandon(self) -> list[Event]:
        """Ends the session on this side only."""
        return [] if self.state.is_final else self._end(SessionState.CLOSED)

    # --- connections ---------------------------------------------------------------------------------------------

    def connection_made(self, now: float) -> None:
        identity = self.client_id or ClientId(0, bytes(16))
        self._framer = Framer(RECEIVE_LIMIT)
        self._connected_at = now
        self._handshake = ConnectRequest(
            self.last_zxid, round(self._requested_timeout * 1000), identity.session_id, identity.password
        ).encode()

    def connection_lost(self, now: float) -> list[Event]:
        """What had left and may have been applied raises; reads and what had not left wait."""
        self._handshake = None
        self._attached = False
        self._connected_at = None
        self._ping_sent_at = None
        events: list[Event] = []
        again: list[Pending] = []
        for pending in self._in_flight:
            if pending.xid < 0 or pending.cancelled:
                continue
            if isinstance(pending.request, CloseSession):
                # The end was wanted, and whether the server heard of it or lets the session lapse is all the same.
                return self._end(SessionState.CLOSED)
            if pending.retry:
                again.append(pending)
            else:
                name = type(pending.request).__name__
                error = errors.ConnectionLoss(
                    f"the connection was lost after a {name} had been sent: it may be applied"
                )
                events.append(Completed(pending, None, error))
        self._in_flight.clear()
        self._queue = deque((*again, *(pending for pending in self._queue if pending.xid >= 0)))
        if self.state is SessionState.CONNECTED:
            self.state = SessionState.DISCONNECTED
            events.insert(0, StateChanged(self.state))
        return events + self.tick(now)

    def take_output(self, now: float) -> bytes:
        """Everything that may leave now, as one piece."""
        if self._handshake is not None:
            output, self._handshake = self._handshake, None
            self._sent_at = now
            return output
        if not self._attached or self.paused or not self._queue:
            return b""
        parts: list[bytes | bytearray] = []
        in_flight = self._in_flight
        xid = self._last_xid
        for pending in self._queue:
            if pending.cancelled:
                continue
            if pending.xid >= 0:
                xid = xid + 1 if xid < MAX_XID else 1
                pending.xid = xid
            pending.sent_at = now
            parts.append(_HEADER.pack(len(pending.body) + 8, pending.xid, pending.request.opcode))
            parts.append(pending.body)
            in_flight.append(pending)
        self._queue.clear()
        self._last_xid = xid
        if parts:
            self._sent_at = now
        return b"".join(parts)

    # --- what arrives --------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        if self.state.is_final:
            return []
        # After a long stall the deadline is judged before anything that arrived meanwhile is believed.
        if self.client_id is not None and now >= self._lapses_at():
            return self._end(SessionState.EXPIRED)
        self._heard_at = now
        events: list[Event] = []
        try:
            for body in self._framer.feed(data):
                if self._attached:
                    self._receive_message(body, events)
                else:
                    self._receive_handshake(body, events)
                if self._is_over():
                    break
        except errors.WireError as error:
            if self._in_flight:  # not asked again: the same answer would cost the next connection too
                events.append(Completed(self._in_flight.popleft(), None, error))
            events.append(DropConnection(f"the server's bytes are not the protocol: {error}"))
        return events

    def _receive_handshake(self, body: bytes, events: list[Event]) -> None:
        response = ConnectResponse.decode(body)
        refused = response.timeout <= 0 or response.session_id == 0
        # A server that does not implement re-attaching may hand out another id: that is an expiry, too.
        moved = self.client_id is not None and response.session_id != self.client_id.session_id
        if refused or moved:
            if self.client_id is None:
                events.append(DropConnection("the server refused a session"))
            else:
                events.extend(self._end(SessionState.EXPIRED))
            return
        self.client_id = ClientId(response.session_id, response.password)
        self.timeout = response.timeout / 1000
        self._attached = True
        self._connected_at = None
        self._answered_at = self._sent_at
        self.state = SessionState.CONNECTED
        # Ahead of every request of the caller, so that no reply can overtake an event or miss a credential.
        preface = [_with_xid(Auth(0, scheme, credential), XID_AUTH) for scheme, credential in self._credentials] + [
            _with_xid(packet, XID_SET_WATCHES) for packet in self.watches.rearm(self.last_zxid)
        ]
        self._queue.extendleft(reversed(preface))
        events.append(StateChanged(self.state))

    def _receive_message(self, body: bytes, events: list[Event]) -> None:
        xid, zxid, code = decode_reply_header(body)
        if xid == XID_EVENT:
            # Its zxid is not taken: since 3.9 it is the change's own, and a reply must not look newer than it is.
            self._receive_event(body, events)
            return
        if xid == XID_PING:
            if self._ping_sent_at is not None:
                self._answered_at = max(self._answered_at, self._ping_sent_at)
            self._ping_sent_at = None
            return
        if not self._in_flight or self._in_flight[0].xid != xid:
            raise errors.WireError(f"a reply with xid {xid} to no request")
        pending = self._in_flight.popleft()
        self._answered_at = max(self._answered_at, pending.sent_at)
        self.last_zxid = max(self.last_zxid, zxid)
        if code == errors.ThrottledOp.code and pending.xid > 0:
            self._queue.append(pending)  # it was not executed
            return
        if pending.arm is not None:
            self._arm(pending.arm, code)
        self._complete(pending, code, body, events)

    def _arm(self, arm: Arm, code: int) -> None:
        if code == 0:
            # An exists-watch of a znode that is there is kept as a data watch: in the exist list of setWatches it
            # would fire at once, and stay silent if the znode went meanwhile.
            table = WatchTable.DATA if arm.table is WatchTable.EXIST else arm.table
            self.watches.add(table, arm.path, arm.watcher)
        elif code == _NO_NODE and arm.table is WatchTable.EXIST:
            self.watches.add(WatchTable.EXIST, arm.path, arm.watcher)

    def _complete(self, pending: Pending, code: int, body: bytes, events: list[Event]) -> None:
        if code == 0:
            try:
                reply = pending.request.reply_type.read(reply_body(body))
            except errors.WireError as error:
                events += (Completed(pending, None, error), DropConnection(f"a reply that cannot be read: {error}"))
                return
            events.append(Completed(pending, reply, None))
            if isinstance(pending.request, CloseSession):
                events.extend(self._end(SessionState.CLOSED))
        elif code == errors.AUTH_FAILED_CODE:
            events.append(Completed(pending, None, errors.AuthenticationFailed("the server refused a credential")))
            events.extend(self._end(SessionState.AUTH_FAILED))
        elif code == errors.SESSION_EXPIRED_CODE:
            events.append(Completed(pending, None, errors.SessionExpired("the server said that the session is over")))
            events.extend(self._end(SessionState.EXPIRED))
        else:
            events.append(Completed(pending, None, errors.from_code(code, pending.request.subject)))

    def _receive_event(self, body: bytes, events: list[Event]) -> None:
        number, path = decode_event(body)
        kind = _EVENT_TYPES.get(number)
        if kind is None:
            return  # a kind of a later server: nothing of ours is armed for it
        watchers = self.watches.fire(kind, path)
        if watchers:
            events.append(Fired(watchers, WatchEvent(kind, self._chroot.remove(path))))

    # --- time ----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Event]:
        if self.state.is_final:
            return []
        if self.client_id is not None and now >= self._lapses_at():
            return self._end(SessionState.EXPIRED)
        if self.state is SessionState.CONNECTED:
            if now >= self._heard_at + self.timeout * 2 / 3:
                return [DropConnection(f"the server was silent for {now - self._heard_at:.1f} s")]
        elif self._connected_at is not None and now >= self._connected_at + self._connect_timeout:
            return [DropConnection("the server did not answer the handshake in time")]
        return []

    def take_ping(self, now: float) -> bytes:
        """A ping when it is time for one, else nothing. At most one is under way: all pongs look alike."""
        idle = now - self._sent_at >= self.timeout / 3
        if not idle or not self._attached or self._ping_sent_at is not None:
            return b""
        self._ping_sent_at = self._sent_at = now
        return _PING

    # --- the end -------------------------------------------------------------------------------------------------

    def _end(self, state: SessionState) -> list[Event]:
        self.state = state
        error = self._final_error()
        events: list[Event] = [StateChanged(state)]
        for pending in (*self._in_flight, *self._queue):
            if isinstance(pending.request, CloseSession):
                events.append(Completed(pending, None, None))
            elif pending.xid >= 0 and not pending.cancelled:
                events.append(Completed(pending, None, error))
        self._in_flight.clear()
        self._queue.clear()
        events.append(DropConnection("the session is over"))
        return events

    def _final_error(self) -> errors.ZooKeeperError:
        if self.state is SessionState.CLOSED:
            return errors.ClientClosed("the client is closed")
        if self.state is SessionState.AUTH_FAILED:
            return errors.AuthenticationFailed("the server refused a credential of this session")
        return errors.SessionExpired("the session expired; it takes a new client object to go on")


def _with_xid(request: Request[Record], xid: int) -> Pending:
    pending = Pending(request, lambda _reply, _error: None)
    pending.xid = xid
    return pending
