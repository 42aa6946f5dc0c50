"""One ZooKeeper session without I/O: bytes and times go in, bytes and events come out.

Its owner (`connection.py`) has the socket and the clock. It reports connections made and lost, passes received bytes,
sends what `take_output` returns, and calls `tick` at `next_tick`. Every method takes `now` in seconds of a clock that
never goes back and that runs on while the machine is suspended.

What becomes of a request when the connection is lost:

- It has not left: it waits for the next connection.
- It has left and is a read: it is sent again.
- It has left and is a write: it raises ConnectionLoss, because only the caller can find out whether it was applied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.presented import NOTHING, REFUSALS, Presented, authentication_refusal
from herdmaster.zookeeper.client.requests import (
    HEADER,
    Accepted,
    Arm,
    Completed,
    Done,
    DropConnection,
    Event,
    Fired,
    Pending,
    StateChanged,
    disarm,
    final_error,
)
from herdmaster.zookeeper.client.watches import WatchRegistry
from herdmaster.zookeeper.model import ClientId, EventType, SessionState, WatchEvent
from herdmaster.zookeeper.paths import Chroot
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.wire.framing import (
    ConnectRequest,
    ConnectResponse,
    Framer,
    decode_event,
    is_event,
    reply_body,
    unpack_reply_header,
)
from herdmaster.zookeeper.wire.opcodes import MAX_XID, XID_AUTH, XID_PING, XID_SET_WATCHES, OpCode
from herdmaster.zookeeper.wire.records import NO_SIGNS_OF_LIFE, Auth, CloseSession, EmptyReply

RECEIVE_LIMIT: Final = 256 * 1024 * 1024
"""The server limits what it receives, not what it sends: a listing of a long folder is larger than jute.maxbuffer."""

_PING: Final = HEADER.pack(8, XID_PING, OpCode.PING)
_EVENT_TYPES: Final = {int(kind): kind for kind in EventType}

Measure = Callable[[str, float], None]
"""Called with the name of each request that was answered, and the seconds since it left."""


class Session:
    """The state of one session."""

    def __init__(self, *, timeout: float, connect_timeout: float, chroot: Chroot) -> None:
        self.state = SessionState.CONNECTING
        self.is_over = False  # the state is final
        self.is_gone = False  # a server has said that the session has ended
        self.timeout = timeout  # the requested one until a server has negotiated
        self.client_id: ClientId | None = None
        self.last_zxid = 0
        self.watches = WatchRegistry()
        self.was_answered = False  # a request on the present connection, or on the last one, beyond its preface
        self.paused = False  # set by the owner while the socket takes no more
        self._chroot = chroot
        self._requested_timeout = timeout
        self._connect_timeout = connect_timeout
        self.presented = NOTHING  # with the present connection
        self._added: list[tuple[str, Secret]] = []  # credentials for every later connection
        self._refusal: errors.ZooKeeperError | None = None  # why authentication has failed
        self._framer = Framer(RECEIVE_LIMIT)
        self._queue: deque[Pending] = deque()
        self.tokens: deque[Pending] = deque()  # of SASL, between `Accepted` and `establish`: nothing else leaves then
        self._in_flight: deque[Pending] = deque()
        self._handshake: bytes | None = None  # the connect request, until it is taken
        self._attached = False  # the handshake of the present connection is done
        self._authenticating = False  # SASL follows it, and is not done
        self._connected_at: float | None = None  # when the connection was made that is not established yet
        self._heard_at = 0.0  # when anything of the session arrived
        self._replied_at = 0.0  # when anything but an event arrived
        self._sent_at = 0.0
        self._answered_at = 0.0  # when the newest answered request was sent
        self._ping_sent_at: float | None = None
        self._last_xid = 0
        self.measure: Measure | None = None

    # --- questions -----------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """Until when the session certainly lives on the server. The server's clock starts when a request arrives, which
        is never before it was sent."""
        return self._answered_at + self.timeout

    @property
    def unsent(self) -> int:
        return len(self._queue)

    def next_tick(self) -> float | None:
        """Return when to call `tick`; None while only a connection attempt is under way."""
        if self.is_over:
            return None
        if self.state is SessionState.CONNECTED:
            drop = self._drops_at()
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

    def _drops_at(self) -> float:
        silent = self._heard_at + self.timeout * 2 / 3
        # Events alone do not prove that the server hears this side, and must not hide that nothing is answered.
        asked = [self._in_flight[0].sent_at] if self._in_flight else []
        if self._ping_sent_at is not None:
            asked.append(self._ping_sent_at)
        return min(silent, max(min(asked), self._replied_at) + self.timeout) if asked else silent

    # --- what the caller wants -----------------------------------------------------------------------------------

    def enqueue(self, pending: Pending) -> None:
        """Queue a request. Raises the session's final error when it is over."""
        if self.is_over:
            raise final_error(self.state, self._refusal)
        self._queue.append(pending)

    def raise_if_over(self) -> None:
        if self.is_over:
            raise final_error(self.state, self._refusal)

    def add_credential(self, scheme: str, credential: Secret, done: Done) -> None:
        """Authenticate now, and again on every later connection: ZooKeeper keeps credentials per connection."""
        self.enqueue(Pending(Auth(0, scheme, credential.reveal()), done, retry=True))
        self._added.append((scheme, credential))
        self.presented = self.presented.with_credentials(self._added[-1:])

    def fail_authentication(self, error: errors.ZooKeeperError) -> list[Event]:
        """End the session with this error, because SASL or the search for a credential has failed."""
        self._refusal = error
        return [] if self.is_over else self._end(SessionState.AUTH_FAILED)

    def disarm(self, arm: Arm) -> bool:
        """Forget a watch, armed or on its way. Return whether the server may forget it, too."""
        return disarm(arm, self.watches, (*self._in_flight, *self._queue))

    def close(self, done: Done) -> list[Event]:
        """End the session. If connected, ask the server, and end with its reply; otherwise the session lapses."""
        if self.state is SessionState.CONNECTED:
            self._queue.append(Pending(CloseSession(), done))
            return []
        events = self.abandon()
        done(None, None)
        return events

    def abandon(self) -> list[Event]:
        """End the session on this side only."""
        return [] if self.is_over else self._end(SessionState.CLOSED)

    # --- connections ---------------------------------------------------------------------------------------------

    def connection_made(self, now: float, presented: Presented = NOTHING) -> None:
        """Begin a connection that presents these credentials. The event `Accepted` asks for SASL, if it is wanted."""
        self.presented = presented.with_credentials(self._added)
        identity = self.client_id or ClientId(0, bytes(16))
        self._framer = Framer(RECEIVE_LIMIT)
        self._connected_at = now
        self.was_answered = False
        self._handshake = ConnectRequest(
            self.last_zxid, round(self._requested_timeout * 1000), identity.session_id, identity.password
        ).encode()

    def connection_lost(self, now: float) -> list[Event]:
        """Fail the writes that had left; reads, and requests that had not left, wait for the next connection."""
        self._handshake = None
        self._attached = self._authenticating = False
        self.tokens.clear()
        self._connected_at = None
        self._ping_sent_at = None
        in_flight = [pending for pending in self._in_flight if not pending.is_moot]
        if any(isinstance(pending.request, CloseSession) for pending in in_flight):
            # The end was wanted, so it does not matter whether the server heard of it or lets the session lapse.
            return self._end(SessionState.CLOSED)
        unsent = [pending for pending in self._queue if not pending.is_moot]
        self._queue = deque([pending for pending in in_flight if pending.retry] + unsent)
        self._in_flight.clear()
        events: list[Event] = []
        if self.state is SessionState.CONNECTED:
            self.state = SessionState.DISCONNECTED
            events.append(StateChanged(self.state))
        events += [Completed(pending, None, pending.loss()) for pending in in_flight if not pending.retry]
        return events + self.tick(now)

    def take_output(self, now: float) -> bytes:
        """Return everything that may leave now, as one piece."""
        if self._handshake is not None:
            output, self._handshake = self._handshake, None
            self._sent_at = now
            return output
        queue = self.tokens if self._authenticating else self._queue
        if not self._attached or self.paused or not queue:
            return b""
        xid = self._last_xid
        frames: list[bytearray] = []
        for pending in queue:
            if pending.is_cancelled():
                continue
            if pending.xid >= 0:
                xid = xid + 1 if xid < MAX_XID else 1
                frames.append(pending.stamp(xid, now))
            else:
                frames.append(pending.stamp(pending.xid, now))
            self._in_flight.append(pending)
        queue.clear()
        self._last_xid = xid
        if frames:
            self._sent_at = now
        return b"".join(frames)

    # --- what arrives --------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        if self.is_over:
            return []
        # After a long stall the deadline is checked before data that arrived meanwhile is believed.
        if self.client_id is not None and now >= self._lapses_at():
            return self._end(SessionState.EXPIRED)
        events: list[Event] = []
        try:
            self._receive_frames(data, now, events)
        except errors.WireError as error:
            if self._in_flight:  # not sent again: the same answer would cost the next connection, too
                pending = self._in_flight.popleft()
                events.append(Completed(pending, None, error if pending.retry else pending.loss()))
            events.append(DropConnection(f"the server's bytes are not the protocol: {error}"))
        return events

    def _receive_frames(self, data: bytes, now: float, events: list[Event]) -> None:
        frames = self._framer.feed(data)
        while frames:
            for body in frames:
                if not self._attached:
                    self._receive_handshake(body, now, events)
                elif is_event(body):
                    # Its zxid is not taken: since 3.9 it is that of the change, and a reply must not look newer.
                    self._receive_event(body, events)
                else:
                    self._receive_reply(body, now, events)
                if self.is_over:
                    return
            frames = self._framer.feed(b"")  # raises if what follows is no frame
        if self._attached:  # bytes of a server that gives no session keep none alive
            self._heard_at = now

    def _receive_handshake(self, body: bytes, now: float, events: list[Event]) -> None:
        response = ConnectResponse.decode(body)
        refused = response.timeout <= 0 or response.session_id == 0
        # A server that does not implement re-attaching may hand out another id: that is an expiry, too.
        moved = self.client_id is not None and response.session_id != self.client_id.session_id
        if refused or moved:
            if self.client_id is None:
                events.append(DropConnection("the server refused a session"))
            else:
                self.is_gone = True
                events.extend(self._end(SessionState.EXPIRED))
            return
        self.client_id = ClientId(response.session_id, response.password)
        self.timeout = response.timeout / 1000
        self._attached = True
        self._answered_at = self._sent_at
        self._heard_at = self._replied_at = now
        self._authenticating = bool(self.presented.mechanism)
        events.extend([Accepted()] if self._authenticating else self.establish())

    def establish(self) -> list[Event]:
        """Begin to serve requests on this connection, because SASL has succeeded or is not wanted."""
        self._authenticating = False
        self._connected_at = None
        self.state = SessionState.CONNECTED
        # Ahead of every request of the caller, so that no reply overtakes an event or misses a credential.
        preface = [
            Pending.for_preface(Auth(0, scheme, credential.reveal()), XID_AUTH)
            for scheme, credential in self.presented.credentials
        ]
        preface += [Pending.for_preface(packet, XID_SET_WATCHES) for packet in self.watches.rearm(self.last_zxid)]
        self._queue.extendleft(reversed(preface))
        return [StateChanged(self.state)]

    def _receive_reply(self, body: bytes, now: float, events: list[Event]) -> None:
        xid, zxid, code = unpack_reply_header(body)
        self._replied_at = now
        if xid == XID_PING:
            if self._ping_sent_at is not None:
                self._answered_at = max(self._answered_at, self._ping_sent_at)
            self._ping_sent_at = None
            self.was_answered = True
            if code in REFUSALS:
                events.extend(self.fail_authentication(authentication_refusal(code, None, self.presented)))
            return
        if not self._in_flight or self._in_flight[0].xid != xid:
            raise errors.WireError(f"a reply with xid {xid} to no request")
        pending = self._in_flight[0]
        # Decoded before anything is believed of it: a reply that cannot be read is handled like any other garbage.
        reply = pending.request.reply_type.read(reply_body(body)) if code == 0 else None
        self._in_flight.popleft()
        if self.measure is not None and pending.xid > 0:
            self.measure(type(pending.request).__name__, now - pending.sent_at)
        if type(pending.request) not in NO_SIGNS_OF_LIFE:
            self._answered_at = max(self._answered_at, pending.sent_at)
        self.last_zxid = max(self.last_zxid, zxid)
        self.was_answered = self.was_answered or pending.xid > 0
        if pending.arm is not None and not pending.is_cancelled():
            pending.arm.take_effect(self.watches, code)
        if reply is None:
            self._receive_error(pending, code, events)
            return
        events.append(Completed(pending, reply, None))
        if type(reply) is EmptyReply and type(pending.request) is CloseSession:
            self.is_gone = True
            events.extend(self._end(SessionState.CLOSED))

    def _receive_error(self, pending: Pending, code: int, events: list[Event]) -> None:
        if code in REFUSALS:
            failure = authentication_refusal(code, pending.request, self.presented)
            events += [Completed(pending, None, failure), *self.fail_authentication(failure)]
        elif code == errors.SESSION_EXPIRED_CODE:
            self.is_gone = True
            events.append(Completed(pending, None, errors.SessionExpired("the server said that the session is over")))
            events.extend(self._end(SessionState.EXPIRED))
        elif pending.xid < 0:
            # Without its watches and credentials the session would be silently deaf or powerless.
            name = type(pending.request).__name__
            events.append(DropConnection(f"the server refused the {name} that begins a connection: {code}"))
        elif code == errors.ThrottledOp.code:
            self._queue.append(pending)  # it was not executed
        else:
            error = pending.refusal(code, self._chroot.remove(pending.request.subject), self.presented)
            events.append(Completed(pending, None, error))

    def _receive_event(self, body: bytes, events: list[Event]) -> None:
        number, path = decode_event(body)
        kind = _EVENT_TYPES.get(number)  # a later server may have kinds for which nothing of this client is armed
        watchers = self.watches.fire(kind, path) if kind is not None else None
        if kind is not None and watchers:
            events.append(Fired(watchers, WatchEvent(kind, self._chroot.remove(path))))

    # --- time ----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Event]:
        if self.is_over:
            return []
        if self.client_id is not None and now >= self._lapses_at():
            return self._end(SessionState.EXPIRED)
        if self.state is SessionState.CONNECTED:
            if now >= self._drops_at():
                return [DropConnection(f"the server answered nothing for {now - self._replied_at:.1f} s")]
        elif self._connected_at is not None and now >= self._connected_at + self._connect_timeout:
            return [DropConnection("the server did not answer the handshake in time")]
        return []

    def take_ping(self, now: float) -> bytes:
        """Return a ping if it is time for one, otherwise nothing. At most one is under way: all pongs look alike."""
        idle = now - self._sent_at >= self.timeout / 3
        if not idle or self.state is not SessionState.CONNECTED or self._ping_sent_at is not None:
            return b""
        self._ping_sent_at = self._sent_at = now
        return _PING

    # --- the end -------------------------------------------------------------------------------------------------

    def _end(self, state: SessionState) -> list[Event]:
        self.state = state
        self.is_over = True
        events: list[Event] = [StateChanged(state)]
        for pending in (*self._in_flight, *self._queue):
            if isinstance(pending.request, CloseSession):
                events.append(Completed(pending, None, None))
            elif not pending.is_moot:
                events.append(Completed(pending, None, final_error(self.state, self._refusal)))
        self._in_flight.clear()
        self._queue.clear()
        events.append(DropConnection("the session is over"))
        return events
