"""The server without sockets: bytes of connections in, bytes for connections out.

The machine has no clock, no randomness and no I/O. Every time and secret is a parameter, and nothing depends on hash
order, so the same inputs give the same outputs. Only one thread at a time may use it.

Its driver calls `connect`, `receive`, `resume`, `disconnect` and `tick`. After each round it takes the output of the
connections from `take_output`. If transactions are journalled (`recording`), the driver first takes `take_recorded`,
and holds the output back until these are on disk: a reply, an event and even a read may show them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from herdmaster.zookeeper.errors import WireError
from herdmaster.zookeeper.model import Id
from herdmaster.zookeeper.server import four_letter
from herdmaster.zookeeper.server.authentication import Authentication
from herdmaster.zookeeper.server.connection import WORD_LENGTH, Connection, Phase
from herdmaster.zookeeper.server.effects import Transaction
from herdmaster.zookeeper.server.faults import Arrival, Delay, Drop, Faults, Refuse
from herdmaster.zookeeper.server.instant import Instant
from herdmaster.zookeeper.server.latency import Latency
from herdmaster.zookeeper.server.requests import Requests
from herdmaster.zookeeper.server.sessions import PASSWORD_LENGTH, Session, is_password, password_of
from herdmaster.zookeeper.server.settings import Settings
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.server.watches import Watches
from herdmaster.zookeeper.server.writes import Outbox, Writes
from herdmaster.zookeeper.wire.framing import (
    ConnectRequest,
    ConnectResponse,
    RequestHeader,
    decode_request,
    decode_request_header,
)
from herdmaster.zookeeper.wire.opcodes import OpCode
from herdmaster.zookeeper.wire.records import Record, Request

_REQUESTS_PER_ROUND: Final = 400
_OUTPUT_PER_ROUND: Final = 1 << 20
_NO_SIGNS_OF_LIFE: Final = frozenset({OpCode.AUTH, OpCode.SASL})
"""A session is kept alive by the requests that are handled, pings among them, except these two; other bytes do not keep
it."""


class Machine:
    """A server. `state` is what it remembers from before, or a fresh one; `secret` makes the passwords of sessions."""

    def __init__(
        self,
        state: State,
        settings: Settings,
        secret: bytes,
        now: Instant,
        *,
        recording: bool = False,
        faults: Faults | None = None,
    ) -> None:
        self.state = state
        self.settings = settings
        self.faults = faults
        self.connections: dict[Connection, None] = {}
        self.watches: Watches[Connection] = Watches()
        self.received = 0
        self.latency = Latency()
        self.started = now
        self.about: dict[str, four_letter.Value] = {}
        """What the word `conf` reports of the driver: clientPort, dataDir and the like."""
        self.environment: dict[str, str] = {}
        """What the word `envi` reports besides the version."""
        self.measures: dict[str, four_letter.Value] = {}
        """What the word `mntr` reports of the driver."""
        self._secret = secret
        self._attached: dict[int, Connection] = {}
        self._outbox = Outbox()
        self._writes = Writes(state, self.watches, self._outbox, settings, recording=recording)
        self._authentication = Authentication(settings, secret)
        self._requests = Requests(state, self.watches, self._outbox, self._writes, self._authentication)
        self._held: dict[Connection, None] = {}
        self._next_sweep = now.monotonic + settings.sweep_interval
        state.sessions.restart(now.monotonic)

    # --- what the driver calls ---------------------------------------------------------------------------------------

    def connect(self, host: str, port: int, now: Instant, identities: Sequence[Id] = ()) -> Connection:
        """Take a new connection. `identities` are those that it proves itself, such as that of a client certificate."""
        connection = Connection(host, port, now.unix, self.settings.frame_limit, identities)
        self.connections[connection] = None
        return connection

    def receive(self, connection: Connection, data: bytes, now: Instant, *, handle: bool = True) -> None:
        """Take received bytes. Frames that one round has no room for, or that are not to be handled yet, wait in
        `connection.backlog` for `resume`."""
        if connection.phase is Phase.GREETING:
            data = self._greet(connection, data, now)
        if connection.is_closed or not data:
            return
        self._take_frames(connection, data, now.monotonic)
        if handle or not connection.backlog:
            self.resume(connection, now)

    def end(self, connection: Connection, now: Instant) -> None:
        """Note that the client sends nothing more. It may still read: it gets the answers that it is owed, then the
        end."""
        connection.is_broken = True
        self.resume(connection, now)

    def resume(self, connection: Connection, now: Instant) -> None:
        """Handle frames that wait, a bounded number of them."""
        backlog = connection.backlog
        for _ in range(_REQUESTS_PER_ROUND):
            if not backlog or connection.outgoing_size > _OUTPUT_PER_ROUND:
                break
            arrival, frame = backlog.popleft()
            connection.note_handled(arrival)
            self._handle(connection, frame, now)
        if connection.shows_life:
            connection.shows_life = False
            session = self.state.sessions.find(connection.session_id)
            if session is not None:
                self.state.sessions.touch(session, now.monotonic)
        if connection.is_broken and not backlog:
            self._close(connection)

    def disconnect(self, connection: Connection) -> None:
        """Forget a connection that is gone. Its session lives on, its watches do not."""
        self._close(connection)
        self.connections.pop(connection, None)

    def tick(self, now: Instant) -> None:
        """End sessions whose time is over, sweep containers and znodes with a time to live, release what a fault held
        back. To be called at least once per tick."""
        for connection in list(self._held):
            connection.release(now.monotonic)
            self._outbox.mark(connection)
            if not connection.held:
                del self._held[connection]
        for session_id in self.state.sessions.expired(now.monotonic):
            self.expire_session(session_id, now)
        if now.monotonic >= self._next_sweep:
            self._next_sweep = now.monotonic + self.settings.sweep_interval
            for path in self.state.tree.expired_paths(now.unix):
                self._writes.delete(path, now.unix)

    def next_due(self) -> int:
        """Return when `tick` has something to do next, in monotonic milliseconds."""
        deadline = self.state.sessions.next_deadline()
        release = self.next_release()
        return min(time for time in (self._next_sweep, deadline, release) if time is not None)

    def next_release(self) -> int | None:
        """Return when `tick` releases something next that a fault held back, in monotonic milliseconds."""
        return min((connection.held[0][0] for connection in self._held), default=None)

    def take_output(self) -> list[Connection]:
        """Return the connections with something to send (`Connection.take`) or to be closed after that
        (`is_closed`)."""
        return self._outbox.take()

    def note_delivered(self, connection: Connection, arrivals: Mapping[int, int], now: Instant) -> None:
        """Note that the answers to requests that arrived then (`Connection.take_arrivals`) have left."""
        for arrival, count in arrivals.items():
            connection.latency.add(now.monotonic - arrival, count)
            self.latency.add(now.monotonic - arrival, count)
            connection.responded = now.monotonic

    def take_recorded(self) -> list[Transaction]:
        """Return the transactions since the last call, for the journal."""
        recorded, self._writes.recorded = self._writes.recorded, []
        return recorded

    @property
    def sent(self) -> int:
        """Frames sent since the start."""
        return self._outbox.sent

    def expire_session(self, session_id: int, now: Instant) -> None:
        """End the session now: its ephemerals go, and its connection is closed without an answer."""
        connection = self._attached.get(session_id)
        if connection is not None:
            self._close(connection)
        if self.state.sessions.find(session_id) is not None:
            self._writes.close_session(session_id, now.unix)

    def drop_connection(self, session_id: int) -> bool:
        """Cut the connection of a session, with the output that was not sent yet. Return False if it has none."""
        connection = self._attached.get(session_id)
        if connection is None:
            return False
        self._close(connection)
        connection.take()
        return True

    @staticmethod
    def _take_frames(connection: Connection, data: bytes, monotonic: int) -> None:
        """Split bytes into frames. Frames before one of an impossible length are still handled."""
        try:
            while frames := connection.framer.feed(data):
                connection.backlog.extend([(monotonic, each) for each in frames])
                data = b""
        except WireError:
            connection.is_broken = True

    # --- the handshake -----------------------------------------------------------------------------------------------

    def _greet(self, connection: Connection, data: bytes, now: Instant) -> bytes:
        """Return the bytes that are no four-letter word; nothing while that is not known."""
        data = connection.greeting + data
        connection.greeting = data
        if len(data) < WORD_LENGTH:
            return b""
        connection.greeting = b""
        answer = four_letter.answer(data[:WORD_LENGTH], self, now.monotonic - self.started.monotonic)
        if answer is None:
            connection.phase = Phase.HANDSHAKE
            return data
        connection.outgoing.append(answer)  # not counted: words are no packets
        self._close(connection)
        return b""

    def _handshake(self, connection: Connection, body: bytes, now: Instant) -> None:
        try:
            request = ConnectRequest.decode(body)
        except WireError:
            self._close(connection)
            return
        if request.last_zxid_seen > self.state.zxid:
            # The client has seen a future of this tree: it must not be served the past.
            self._close(connection)
            return
        session = self._session_for(request, now)
        read_only = None if request.read_only is None else False
        if session is None:
            self._outbox.send(connection, ConnectResponse(0, 0, bytes(PASSWORD_LENGTH), read_only).encode())
            self._close(connection)
            return
        connection.phase = Phase.ATTACHED
        connection.actor.session_id = session.id
        self._attached[session.id] = connection
        self.state.sessions.touch(session, now.monotonic)
        password = password_of(session.id, self._secret)
        self._outbox.send(connection, ConnectResponse(session.timeout, session.id, password, read_only).encode())

    def _session_for(self, request: ConnectRequest, now: Instant) -> Session | None:
        timeout = min(max(request.timeout, self.settings.min_timeout), self.settings.max_timeout)
        sessions = self.state.sessions
        if not request.session_id:
            return sessions.find(self._writes.open_session(timeout, now.unix))
        session = sessions.find(request.session_id)
        if session is None or not is_password(request.password, session.id, self._secret):
            return None
        # Only the newest connection of a session counts. Apache's server closes the previous one even for a wrong
        # password, so there a client that can read an ephemeral's owner can keep that session from being served.
        previous = self._attached.get(session.id)
        if previous is not None:
            self._close(previous)
        session.timeout = timeout
        return session

    # --- requests ----------------------------------------------------------------------------------------------------

    def _handle(self, connection: Connection, body: bytes, now: Instant) -> None:
        connection.received += 1
        self.received += 1
        if connection.phase is Phase.HANDSHAKE:
            self._handshake(connection, body, now)
            return
        try:
            header = decode_request_header(body)
        except WireError:
            self._close(connection)
            return
        connection.last_opcode, connection.last_xid = header.opcode, header.xid
        if not self._authentication.allows(connection, header.opcode):
            self._requests.refuse_unauthenticated(connection, header.xid)
            self._close(connection)
            return
        if header.opcode not in _NO_SIGNS_OF_LIFE:
            connection.shows_life = True
        request: Request[Record] | WireError | None
        try:
            request = decode_request(body)
        except WireError as error:
            request = error
        if self.faults is None:
            self._apply(connection, header, request, now)
        else:
            self._apply_with_faults(self.faults, connection, header, request, now)

    def apply(self, connection: Connection, xid: int, request: Request[Record], now: Instant) -> None:
        """Handle one request of an attached session."""
        if not self._requests.apply(connection, xid, request, now.unix):
            self._close(connection)

    def _apply(
        self,
        connection: Connection,
        header: RequestHeader,
        request: Request[Record] | WireError | None,
        now: Instant,
    ) -> None:
        if isinstance(request, WireError):
            if not self._requests.refuse_unreadable(connection, header.xid, header.opcode, now.unix):
                self._close(connection)
        elif request is not None:
            self.apply(connection, header.xid, request, now)
        elif not self._requests.apply_other(connection, header.xid, header.opcode, now.unix):
            self._close(connection)

    def _apply_with_faults(
        self,
        faults: Faults,
        connection: Connection,
        header: RequestHeader,
        request: Request[Record] | WireError | None,
        now: Instant,
    ) -> None:
        known = None if isinstance(request, WireError) else request
        arrival = Arrival(connection.session_id, header.xid, header.opcode, known)
        first = faults.before(arrival)
        if isinstance(first, Drop):
            self._close(connection)
            return
        if isinstance(first, Refuse):
            self._requests.reply(connection, header.xid, first.code)
            return
        mark = connection.mark()
        self._apply(connection, header, request, now)
        then = faults.after(arrival)
        if then is None:
            return
        if isinstance(then, Delay):
            if not connection.is_closed:
                # One more, because the clock is truncated to milliseconds: the present one may be almost over.
                connection.hold(mark, now.monotonic + then.milliseconds + 1)
                if connection.held:
                    self._held[connection] = None
            return
        connection.cut(mark, 0 if isinstance(then, Drop) else then.length)
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.is_closed:
            return
        connection.phase = Phase.CLOSED
        connection.backlog.clear()
        connection.release()
        self._held.pop(connection, None)
        self.watches.drop(connection)
        if self._attached.get(connection.session_id) is connection:
            del self._attached[connection.session_id]
        self._outbox.mark(connection)
