"""Bytes of ill will: the server stays up, its memory stays bounded, and other sessions do not notice."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.server import EmbeddedServer, Limits
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import MAX_FRAME, ConnectRequest, encode_request, frame
from herdmaster.zookeeper.wire.multi import Multi, MultiRead
from tests.zookeeper.server.process import Process
from tests.zookeeper.server.rig import Rig
from tests.zookeeper.server.threaded import ServerThread
from tests.zookeeper.server.wire import Wire

HANDSHAKE = ConnectRequest(0, 10_000, 0, b"\0" * 16).encode()
ORDINARY = [
    records.Create("/a", b"data", OPEN_ACL, 0),
    records.CreateTtl("/t", b"data", OPEN_ACL, 5, 1000),
    records.Delete("/a", -1),
    records.SetData("/a", b"x", -1),
    records.GetData("/a", True),
    records.GetChildren2("/", True),
    records.SetAcl("/a", OPEN_ACL, -1),
    records.SetWatches2(0, ("/a",), ("/b",), ("/",), ("/p",), ("/r",)),
    records.AddWatch("/a", 1),
    records.Auth(0, "digest", b"al:pw"),
    records.GetEphemerals(None),
    Multi((records.Create("/m", b"", OPEN_ACL, 2), records.Check("/m", -1))),
    MultiRead((records.GetData("/a", False), records.GetChildren("/", False))),
]


@st.composite
def mutated_frames(draw: st.DrawFn) -> bytes:
    """An ordinary request with a few bytes changed, left out or put in, in a frame of the right length or not."""
    body = bytearray(encode_request(draw(st.integers(-10, 10)), draw(st.sampled_from(ORDINARY)))[4:])
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(body)))
        change = draw(st.sampled_from(["replace", "insert", "cut"]))
        if change == "replace":
            body[at : at + 4] = draw(st.sampled_from([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80"]))
        elif change == "insert":
            body[at:at] = draw(st.binary(max_size=8))
        else:
            del body[at:]
    if draw(st.integers(0, 9)) == 0:
        return draw(st.integers(0, 2**32 - 1)).to_bytes(4, "big") + bytes(body)
    return frame(body)


@settings(max_examples=300)
@given(st.lists(mutated_frames(), max_size=6), st.randoms(use_true_random=False))
@pytest.mark.long
def test_no_bytes_break_the_machine(frames: list[bytes], random: random.Random) -> None:
    """Whatever comes, in whatever portions: the machine answers or closes, and another session works on."""
    rig = Rig()
    other = rig.client()
    hostile = rig.client()
    hostile.reads_frames = False
    stream = b"".join(frames)
    while stream and not hostile.is_closed:
        size = random.randint(1, 40)
        hostile.send(stream[:size])
        stream = stream[size:]
    assert other.create("/still-works") == "/still-works"
    assert len(hostile.connection.backlog) == 0
    assert hostile.connection.framer.pending <= MAX_FRAME + 4


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_no_bytes_instead_of_a_handshake_break_the_machine(data: bytes) -> None:
    rig = Rig()
    other = rig.client()
    rig.peer().send(data)
    rig.peer().send(HANDSHAKE[:10] + data)
    rig.peer().send(frame(data or b"x"))
    assert other.create("/still-works") == "/still-works"


@pytest.fixture
def server() -> Iterator[ServerThread]:
    with ServerThread(EmbeddedServer(limits=Limits(handshake=5.0))) as thread:
        yield thread


def works(client: Wire, path: str) -> bool:
    return client.create(path).error == 0


def cut_handshakes(port: int, count: int, source: random.Random) -> None:
    for index in range(count):
        connection = socket.create_connection(("127.0.0.1", port))
        with contextlib.suppress(ConnectionError):
            connection.sendall(HANDSHAKE[: source.randrange(len(HANDSHAKE))])
            if index % 2:
                # An abrupt end: a reset instead of a goodbye.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()


def test_handshakes_that_are_cut_leave_nothing_behind(server: ServerThread) -> None:
    client = server.attach()
    cut_handshakes(server.port, 200, random.Random(7))
    assert works(client, "/after")
    with server.wire() as last:
        last.handshake()
    while len(server.run(lambda: list(server.server.machine.connections))) > 2:
        assert client.ask(records.Ping()).error == 0
    assert len(server.server.machine.state.sessions) == 2


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "data")
    process.start()
    yield process
    process.kill()


@pytest.mark.long
def test_thousands_of_cut_handshakes_cost_less_than_three_mebibytes(process: Process) -> None:
    source = random.Random(7)
    with Wire(process.port) as client:
        client.handshake()
        cut_handshakes(process.port, 50, source)
        before = process.resident()
        for index in range(100):
            # No more at once than the system lets wait: a connection beyond those is tried again after a second.
            cut_handshakes(process.port, 50, source)
            assert works(client, f"/n{index}")
        assert process.resident() - before < 3 << 20


@pytest.mark.long
def test_half_frames_held_open_cost_half_more_than_was_sent_and_16_kib_per_connection(
    process: Process,
) -> None:
    """Whatever length their frames announce, and however often they are let go and come again."""
    count, part = 500, b"x" * 20_000
    bound = count * (len(part) * 3 // 2 + (16 << 10))
    with Wire(process.port) as client:
        client.handshake()
        before = process.resident()
        for index in range(2):
            with contextlib.ExitStack() as held:
                for _ in range(count):
                    slow = held.enter_context(Wire(process.port))
                    slow.handshake()
                    slow.socket.sendall(MAX_FRAME.to_bytes(4, "big") + part)
                assert works(client, f"/n{index}")
                assert process.resident() - before < bound


def test_slow_half_frames_disturb_no_other_and_cost_little(server: ServerThread) -> None:
    client = server.attach()
    slow = [server.attach() for _ in range(50)]
    for wire in slow:
        wire.socket.sendall(MAX_FRAME.to_bytes(4, "big") + b"x" * 1000)
    assert works(client, "/a")
    pending = [connection.framer.pending for connection in server.server.machine.connections]
    assert max(pending) <= 2000


def test_random_bytes_on_many_sessions_disturb_no_other(server: ServerThread) -> None:
    client = server.attach()
    source = random.Random(11)
    for index in range(100):
        hostile = server.attach()
        with contextlib.suppress(ConnectionError):
            hostile.socket.sendall(source.randbytes(source.randrange(1, 3000)))
        hostile.close()
        assert works(client, f"/n{index}")


def test_a_reply_may_be_larger_than_a_request_may(server: ServerThread) -> None:
    client = server.attach()
    for index in range(1500):
        client.send(records.Create(f"/{index:04d}{'x' * 900}", b"", OPEN_ACL, 0))
    assert {client.receive().error for _ in range(1500)} == {0}
    answer = client.ask(records.GetChildren("/", False))
    assert answer.error == 0
    assert len(answer.body) > MAX_FRAME
