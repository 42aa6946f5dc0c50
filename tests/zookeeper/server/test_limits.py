"""What one client may cost: connections, handshakes that do not come, bytes that are not read."""

from __future__ import annotations

import socket

import pytest

from herdmaster.zookeeper.server import EmbeddedServer, Limits
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_request
from tests.zookeeper.server.threaded import ServerThread, wait_until


def test_too_many_connections_of_one_host_are_turned_away_and_the_others_stay() -> None:
    with ServerThread(EmbeddedServer(limits=Limits(connections_per_host=3))) as server:
        clients = [server.attach() for _ in range(3)]
        server.wire().wait_ended()
        assert clients[0].ask(records.Sync("/")).error == 0
        clients[0].close()
        wait_until(lambda: len(server.server.machine.connections) == 2)
        assert server.attach().session_id


@pytest.mark.parametrize("start", [b"", b"\0\0", b"\0\0\0\x2d\0\0\0"])
def test_a_connection_without_a_handshake_is_cut(start: bytes) -> None:
    with ServerThread(EmbeddedServer(limits=Limits(handshake=0.2))) as server:
        slow = server.wire()
        slow.socket.sendall(start)
        quick = server.attach()
        slow.wait_ended()
        assert quick.ask(records.Sync("/")).error == 0


def test_a_client_that_does_not_read_its_events_is_cut_and_the_others_go_on() -> None:
    with ServerThread(EmbeddedServer(limits=Limits(unread=100_000))) as server:
        deaf, client = server.attach(), server.attach()
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.body(records.AddWatch("/", 1))
        path = "/" + "x" * 100_000
        client.create(path)

        def is_cut() -> bool:
            client.ask(records.SetData(path, b"", -1))
            return len(server.server.machine.connections) == 1

        wait_until(is_cut)
        assert client.ask(records.Sync("/")).error == 0


@pytest.mark.long
def test_a_client_that_does_not_read_its_answers_is_not_served_on_and_loses_nothing() -> None:
    with ServerThread(EmbeddedServer()) as server:
        client = server.attach(40_000)
        client.create("/big", b"x" * 1_000_000)
        frames = b"".join(encode_request(xid, records.GetData("/big", False)) for xid in range(1, 301))
        client.socket.sendall(frames)
        (connection,) = server.server.machine.connections
        wait_until(lambda: len(connection.backlog) > 100)
        other = server.attach()
        assert other.ask(records.Sync("/")).error == 0
        assert [client.receive().xid for _ in range(300)] == list(range(1, 301))
        assert client.ask(records.Sync("/")).error == 0
