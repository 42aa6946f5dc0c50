"""A client's connection as the machine sees it: received bytes, bytes to send, and the session."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from typing import Final

from herdmaster.zookeeper.digest_md5 import Server
from herdmaster.zookeeper.model import Id
from herdmaster.zookeeper.server.latency import Latency
from herdmaster.zookeeper.server.transactions import Actor
from herdmaster.zookeeper.wire.framing import Framer

WORD_LENGTH: Final = 4


class Phase(enum.Enum):
    GREETING = "greeting"
    """Nothing is known yet: the first four bytes may be a four-letter word."""
    HANDSHAKE = "handshake"
    ATTACHED = "attached"
    CLOSED = "closed"
    """The machine is done with it; what is in `outgoing` may still be sent."""


class Connection:
    """A connection. `established` is in unix milliseconds, `identities` are those that the connection
    itself proves beside its address. Compared and hashed by identity."""

    def __init__(self, host: str, port: int, established: int, frame_limit: int, identities: Iterable[Id] = ()) -> None:
        self.host = host
        self.port = port
        self.established = established
        self.phase = Phase.GREETING
        self.actor = Actor(0, [Id("ip", host), *identities])
        self.framer = Framer(frame_limit)
        self.greeting = b""
        self.backlog: deque[tuple[int, bytes]] = deque()
        """Frames that wait, each with the monotonic milliseconds of its arrival: the machine handles a bounded number
        at a time."""
        self.is_broken = False
        """The bytes after the backlog are not the protocol: the connection ends with the backlog."""
        self.sasl: Server | None = None
        """The authentication that the client has begun."""
        self.shows_life = False
        """A request was handled that keeps the session alive."""
        self.outgoing: list[bytes] = []
        self.outgoing_size = 0
        self.held: deque[tuple[int, bytes]] = deque()
        """Frames that a fault holds back, each with the monotonic milliseconds at which it may go."""
        self.latency = Latency()
        self.responded = 0
        """When the newest answer left, in monotonic milliseconds."""
        self._arrivals: dict[int, int] = {}
        self.received = 0
        self.sent = 0
        self.last_opcode = 0
        self.last_xid = 0
        self.last_zxid = 0

    @property
    def session_id(self) -> int:
        """The id of its session; 0 before the handshake."""
        return self.actor.session_id

    @property
    def is_closed(self) -> bool:
        return self.phase is Phase.CLOSED

    def send(self, data: bytes) -> None:
        self.sent += 1
        if self.held:
            # Nothing overtakes what is held back.
            self.held.append((self.held[-1][0], data))
        else:
            self.outgoing.append(data)
            self.outgoing_size += len(data)

    def note_handled(self, arrival: int) -> None:
        """Note that a request which arrived then was handled: the next output has its answer."""
        self._arrivals[arrival] = self._arrivals.get(arrival, 0) + 1

    def take_arrivals(self) -> dict[int, int]:
        """Return how many of the requests that `take` will answer arrived when. Requests whose answers are held back
        are not answered yet."""
        if self.held:
            return {}
        arrivals, self._arrivals = self._arrivals, {}
        return arrivals

    def take(self) -> list[bytes]:
        """Return the output, and forget it."""
        self.take_arrivals()
        outgoing, self.outgoing, self.outgoing_size = self.outgoing, [], 0
        return outgoing

    def mark(self) -> int:
        """Return a place in the output, for `hold` and `cut`: how many frames were ever sent."""
        return self.sent

    def hold(self, mark: int, until: int) -> None:
        """Hold back the frames sent since the mark until that time. Later frames do not overtake them."""
        frames = self._take_since(mark)
        due = max(until, self.held[-1][0]) if self.held else until
        self.held.extend((due, data) for data in frames)

    def cut(self, mark: int, length: int) -> None:
        """Drop the frames sent since the mark, except the first bytes of the last one. Nothing is held back any
        longer."""
        frames = self._take_since(mark)
        self.release()
        if frames:
            self.outgoing.append(frames[-1][:length])

    def release(self, now: int | None = None) -> None:
        """Send the frames that are due by `now`; all of them if no time is given."""
        while self.held and (now is None or self.held[0][0] <= now):
            _, data = self.held.popleft()
            self.outgoing.append(data)
            self.outgoing_size += len(data)

    def _take_since(self, mark: int) -> list[bytes]:
        count = self.sent - mark
        if self.held:
            return [self.held.pop()[1] for _ in range(count)][::-1]
        start = len(self.outgoing) - count
        frames = self.outgoing[start:]
        del self.outgoing[start:]
        self.outgoing_size -= sum(map(len, frames))
        return frames
