"""Drives two servers with the same requests and compares everything that they answer.

Each example works below a folder of its own, so that one that ended early does not disturb the next. Zxids are
compared by their distance from the creation of that folder: both servers must spend exactly as many.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import msgspec

from herdmaster.zookeeper import digest_md5
from herdmaster.zookeeper.model import OPEN_ACL, Acl, Stat
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiRead, MultiReply
from herdmaster.zookeeper.wire.primitives import Reader
from herdmaster.zookeeper.wire.records import Record, Request
from tests.zookeeper.server.wire import Answer, ConnectionEnded, Event, Wire

LONG, SHORT = 40_000, 400
"""Session timeouts: one that no example outlives, and the shortest."""

_PATIENCE = 20.0


class Side:
    """One of the two servers."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.origin = 0
        """The zxid from which this example counts."""
        self.sessions: dict[int, int] = {}
        """Session ids by the example's own numbers for them, turned round."""

    def distance(self, zxid: int) -> int:
        """A zxid relative to the origin; what comes before the example, and the special ones, as they are."""
        return zxid - self.origin if zxid > 0 else zxid

    def word(self, word: bytes) -> str:
        with Wire(self.port) as wire:
            wire.socket.sendall(word)
            data = b""
            while chunk := wire.socket.recv(8192):
                data += chunk
        return data.decode()

    def count_sessions(self) -> int:
        lines = [line for line in self.word(b"mntr").splitlines() if line.startswith("zk_global_sessions")]
        return int(lines[0].split("\t")[1])


class Twin(msgspec.Struct, eq=False):
    """One session on both servers. `wires` is None while it has no connection."""

    number: int
    wires: tuple[Wire, Wire] | None
    ids: tuple[int, int]
    passwords: tuple[bytes, bytes]
    timeout: int
    is_over: bool = False
    unordered: bool = False
    """Several ephemerals went at once: their events come in any order."""


class Difference(AssertionError):
    pass


class Pair:
    """The two servers during one example. `base` is the folder that everything happens in."""

    def __init__(self, sides: tuple[Side, Side], base: str) -> None:
        self.sides = sides
        self.base = base
        self.twins: list[Twin] = []
        self.compared = 0
        self.tally: Counter[str] = Counter()
        """How often each kind of answer and of event came, to see that the comparison is worth something."""
        self._history: list[str] = []
        for side in sides:
            side.sessions = {}
        first = self.open(LONG)
        assert first.wires is not None
        for side, wire in zip(sides, first.wires, strict=True):
            answer = wire.create(base)
            assert answer.error == 0, f"{side.name} answered {answer.error}"
            side.origin = answer.zxid

    # --- sessions ---------------------------------------------------------------------------------------------------

    def open(self, timeout: int) -> Twin:
        wires = tuple(Wire(side.port) for side in self.sides)
        responses = [wire.handshake(timeout) for wire in wires]
        self.compare("timeout", [response.timeout for response in responses])
        twin = Twin(
            len(self.twins),
            (wires[0], wires[1]),
            (wires[0].session_id, wires[1].session_id),
            (wires[0].password, wires[1].password),
            timeout,
        )
        for side, session_id in zip(self.sides, twin.ids, strict=True):
            side.sessions[session_id] = twin.number
        self.twins.append(twin)
        return twin

    def disconnect(self, twin: Twin) -> None:
        """Ends the connections, and waits until both servers know.

        Apache's keeps the present connection of each session in a map, and a connection that ends removes the entry
        of its session, whichever connection stands there. A new one that comes while the old one ends can so be
        forgotten, and is then not closed when the session moves on to a third.
        """
        if twin.wires is not None:
            for wire in twin.wires:
                wire.leave()
            twin.wires = None

    def reattach(self, twin: Twin, *, timeout: int, right_password: bool = True, seen: int | None = 0) -> None:
        """A new connection for the session; `seen` is the distance of the last zxid seen, None for the far future."""
        old = twin.wires
        wires, outcomes = [], []
        for index, side in enumerate(self.sides):
            wire = Wire(side.port)
            password = twin.passwords[index] if right_password else b"x" * 16
            last = (1 << 63) - 1 if seen is None else side.origin + seen
            try:
                response = wire.handshake(timeout, twin.ids[index], password, last)
            except ConnectionEnded:
                outcomes.append(("ended", 0))
            else:
                same = response.session_id == twin.ids[index] and response.password == twin.passwords[index]
                outcomes.append(("attached" if same else "refused", response.timeout))
            wires.append(wire)
        self.compare("reattach", outcomes, twin)
        if outcomes[0][0] == "attached":
            if old is not None:
                for wire in old:
                    wire.wait_ended()
                    wire.close()
            twin.wires = (wires[0], wires[1])
            twin.timeout = timeout
            return
        for wire in wires:
            wire.wait_ended()
            wire.close()

    def close(self, twin: Twin) -> None:
        """Closes the session with a request."""
        if twin.wires is None:
            self.reattach(twin, timeout=LONG)
        self.ask(twin, records.CloseSession())
        self.end(twin, is_over=True)

    def end(self, twin: Twin, *, is_over: bool) -> None:
        """Both servers must have closed the connection."""
        assert twin.wires is not None
        for wire in twin.wires:
            wire.wait_ended()
            wire.close()
        twin.wires = None
        if is_over:
            twin.is_over = True
            for other in self.twins:
                other.unordered = True

    def expire(self, twin: Twin) -> None:
        """Leaves the session alone until both servers have ended it."""
        self.disconnect(twin)
        self.reattach(twin, timeout=SHORT)
        self.disconnect(twin)
        alive = sum(not each.is_over for each in self.twins)
        deadline = time.monotonic() + _PATIENCE
        while any(side.count_sessions() != alive - 1 for side in self.sides):
            if time.monotonic() > deadline:
                counts = [(side.name, side.count_sessions()) for side in self.sides]
                raise Difference(f"{alive - 1} sessions should be left, the servers have {counts}")
            time.sleep(0.02)
        twin.is_over = True
        for other in self.twins:
            other.unordered = True
        self.reattach(twin, timeout=LONG)

    def finish(self) -> None:
        """What is on its way to any session is compared, then all sessions end."""
        for twin in self.twins:
            if twin.wires is not None:
                self.ask(twin, records.Ping())
        for twin in self.twins:
            if not twin.is_over:
                self.close(twin)

    def abandon(self) -> None:
        """Ends all sessions, whatever became of them."""
        for twin in self.twins:
            for wire in twin.wires or ():
                wire.close()
            twin.wires = None
            for index, side in enumerate(self.sides):
                if not twin.is_over:
                    with Wire(side.port) as wire:
                        if wire.handshake(LONG, twin.ids[index], twin.passwords[index]).session_id:
                            wire.send(records.CloseSession())
                            wire.wait_ended()

    # --- requests ---------------------------------------------------------------------------------------------------

    def ask(self, twin: Twin, request: Request[Record], xid: int | None = None) -> int:
        """The error that both servers answered with."""
        return self.exchange(twin, request, lambda wire: wire.send(request, xid))

    def ask_each(self, twin: Twin, requests: Sequence[Request[Record]]) -> int:
        """Requests that differ in zxids, which each server counts on its own."""
        numbered = iter(requests)
        return self.exchange(twin, requests[0], lambda wire: wire.send(next(numbered)))

    def exchange(self, twin: Twin, request: Request[Record] | None, send: Callable[[Wire], object]) -> int:
        """Sends the same to both and compares the answers. `request` is None for bytes without a meaning."""
        assert twin.wires is not None
        for wire in twin.wires:
            send(wire)
        answers = [self._receive(side, wire) for side, wire in zip(self.sides, twin.wires, strict=True)]
        seen: list[Hashable] = []
        for side, answer in zip(self.sides, answers, strict=True):
            seen.append(self._normal(side, request, answer, unordered=twin.unordered))
        twin.unordered = False
        self.compare(request, seen, twin)
        first = answers[0]
        if not isinstance(first, Answer):
            return 0
        self.tally[f"{type(request).__name__} {first.error}"] += 1
        self.tally.update(f"event {event.type}" for event in first.events)
        return first.error

    def login(self, twin: Twin, user: str, password: str) -> None:
        """Speaks SASL with both. What they answer differs, so their errors are compared, and what both have to say."""
        assert twin.wires is not None
        clients = [digest_md5.Client(user, Secret(password.encode()), "cnonce") for _ in twin.wires]
        tokens = [b"", b""]
        for _ in range(2):
            answers = [wire.ask(records.Sasl(token)) for wire, token in zip(twin.wires, tokens, strict=True)]
            events = [tuple(sorted(each.events)) if twin.unordered else each.events for each in answers]
            twin.unordered = False
            seen = [(each.error, each.zxid, *came) for each, came in zip(answers, events, strict=True)]
            self.compare(f"SASL as {user}", seen, twin)
            self.tally[f"Sasl {answers[0].error}"] += 1
            if answers[0].error:
                self.end(twin, is_over=False)
                return
            challenges = [each.body[4:] for each in answers]
            if tokens[0]:
                for client, challenge in zip(clients, challenges, strict=True):
                    client.verify(challenge)
            else:
                tokens = [client.answer(each) for client, each in zip(clients, challenges, strict=True)]

    def _receive(self, side: Side, wire: Wire) -> Answer | tuple[Event, ...]:
        try:
            return wire.receive()
        except ConnectionEnded as ended:
            return ended.events
        except TimeoutError:
            raise Difference(f"{side.name} does not answer") from None

    def compare(self, what: object, seen: Sequence[Hashable], who: Twin | None = None) -> None:
        self.compared += 1
        self._history.append(f"  session {who.number if who else '-'}: {what} -> {seen[0]}")
        if seen[0] != seen[1]:
            lines = "\n".join(f"  {side.name}: {each}" for side, each in zip(self.sides, seen, strict=True))
            raise Difference(f"the servers differ in {what}:\n{lines}\nafter\n" + "\n".join(self._history[:-1]))

    # --- what is the same -------------------------------------------------------------------------------------------

    def _normal(
        self, side: Side, request: Request[Record] | None, answer: Answer | tuple[Event, ...], *, unordered: bool
    ) -> Hashable:
        if not isinstance(answer, Answer):
            return "ended", tuple(sorted(answer) if unordered else answer)
        events = tuple(sorted(answer.events) if unordered else answer.events)
        body: Hashable = ""
        if answer.error == 0 and request is not None:
            body = self._normal_body(side, request, answer.body)
        return answer.xid, side.distance(answer.zxid), answer.error, events, body

    def _normal_body(self, side: Side, request: Request[Record], data: bytes) -> Hashable:
        reader = Reader(data)
        reply = request.reply_type.read(reader)
        if reader.remaining:
            return "too long", data
        if isinstance(reply, MultiReply):
            assert isinstance(request, Multi | MultiRead)
            return self._normal_multi(side, request, reply)
        return self._normal_record(side, request, reply)

    def _normal_multi(self, side: Side, request: Multi | MultiRead, reply: MultiReply) -> Hashable:
        results: list[Hashable] = []
        for operation, kind, result in zip(request.operations, reply.types, reply.results, strict=True):
            if isinstance(result, ErrorResult):
                results.append((kind, result.code))
            elif isinstance(operation, records.Create2) and isinstance(
                result, records.PathReply | records.PathStatReply
            ):
                # 3.8.0 answers create2 inside a multi like create (ZOOKEEPER-4026).
                results.append(result.path)
            else:
                results.append((kind, self._normal_record(side, operation, result)))
        return tuple(results)

    def _normal_record(self, side: Side, request: Request[Record], reply: Record) -> Hashable:
        fields: list[Hashable] = []
        for value in msgspec.structs.astuple(reply):
            if isinstance(value, Stat):
                fields.append("root" if request.subject in ("", "/") else self._normal_stat(side, value))
            elif isinstance(value, tuple):
                # Children, ephemerals, identities and the entries of an ACL come in hash order.
                fields.append(tuple(sorted(map(repr, value))))
            else:
                fields.append(value)
        return tuple(fields)

    def _normal_stat(self, side: Side, stat: Stat) -> Hashable:
        """Everything but the times."""
        owner = side.sessions.get(stat.ephemeral_owner, stat.ephemeral_owner)
        zxids = tuple(side.distance(zxid) for zxid in (stat.czxid, stat.mzxid, stat.pzxid))
        return (
            zxids,
            stat.version,
            stat.cversion,
            stat.aversion,
            owner,
            stat.data_length,
            stat.num_children,
        )


def open_create(path: str, data: bytes | None = b"", flags: int = 0, acl: tuple[Acl, ...] = OPEN_ACL) -> records.Create:
    return records.Create(path, data, acl, flags)
