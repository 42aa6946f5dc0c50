"""The server on TCP: its life, its limits, and what a restart keeps."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.server import EmbeddedServer, Limits
from herdmaster.zookeeper.server.faults import Arrival, Delay, Refuse
from herdmaster.zookeeper.server.journal_errors import DataDirectoryInUse
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import ConnectRequest, encode_request
from tests.zookeeper.server.threaded import ServerThread, wait_until
from tests.zookeeper.server.wire import Answer, ConnectionEnded, Event, Wire

EPHEMERAL = 1


@pytest.fixture
def server() -> Iterator[ServerThread]:
    with ServerThread(EmbeddedServer(min_session_timeout=200)) as thread:
        yield thread


def test_a_free_port_is_taken_and_kept_over_a_restart() -> None:
    with ServerThread(EmbeddedServer()) as server:
        port = server.port
        assert port
        assert server.hosts == f"127.0.0.1:{port}"
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            server.wire()
        server.start()
        assert server.port == port
        server.attach()


async def test_it_is_an_async_context_manager() -> None:
    async with EmbeddedServer() as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.close()
        await writer.wait_closed()
    await server.stop()


async def test_wrong_use_is_told_clearly() -> None:
    server = EmbeddedServer()
    with pytest.raises(RuntimeError, match="await start"):
        server.advance(1)
    with pytest.raises(RuntimeError, match="never started"):
        await server.wait_stopped()
    async with server:
        with pytest.raises(RuntimeError, match="running already"):
            await server.start()
        with pytest.raises(OSError, match="in use"):
            await EmbeddedServer(port=server.port).start()
        with pytest.raises(ValueError, match="forward"):
            server.advance(-1)
    with pytest.raises(ValueError, match="session timeouts"):
        EmbeddedServer(min_session_timeout=5, max_session_timeout=4)
    with pytest.raises(ValueError, match="tick_time"):
        EmbeddedServer(tick_time=0)


async def test_a_server_that_cannot_listen_gives_its_data_directory_free(tmp_path: Path) -> None:
    async with EmbeddedServer() as other:
        with pytest.raises(OSError, match="in use"):
            await EmbeddedServer(port=other.port, data_dir=tmp_path).start()
    async with EmbeddedServer(data_dir=tmp_path):
        pass


async def test_two_servers_never_share_a_data_directory(tmp_path: Path) -> None:
    async with EmbeddedServer(data_dir=tmp_path):
        with pytest.raises(DataDirectoryInUse):
            await EmbeddedServer(data_dir=tmp_path).start()


def test_a_name_with_several_addresses_gets_one_port() -> None:
    with ServerThread(EmbeddedServer(host="localhost")) as server:
        server.attach().close()


def test_stop_delivers_what_was_answered_and_ends_connections(server: ServerThread) -> None:
    client = server.attach()
    for index in range(200):
        client.send(records.Create(f"/n{index}", b"", (), 0))
    # The answer to the first proves that the server has begun to handle them.
    assert client.receive().error == -114
    server.stop()
    client.wait_ended()
    server.wait(server.server.wait_stopped)


def test_a_server_stops_under_load_and_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    with ServerThread(EmbeddedServer(data_dir=tmp_path)) as server:
        clients = [server.attach() for _ in range(3)]
        acknowledged = [0, 0, 0]

        def load(number: int) -> None:
            with contextlib.suppress(ConnectionEnded, ConnectionError):
                while True:
                    for index in range(50):
                        clients[number].send(
                            records.Create(f"/{number}-{acknowledged[number] + index}", b"", OPEN_ACL, 0)
                        )
                    for _ in range(50):
                        assert clients[number].receive().error == 0
                        acknowledged[number] += 1

        threads = [threading.Thread(target=load, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: min(acknowledged) > 100)
        server.stop()
        for thread in threads:
            thread.join(20)
        server.start()
        reply = server.attach().body(records.GetChildren("/", False))
        assert isinstance(reply, records.ChildrenReply)
        for number in range(3):
            count = sum(name.startswith(f"{number}-") for name in reply.children)
            assert acknowledged[number] <= count <= acknowledged[number] + 50


def test_a_volatile_restart_forgets_everything_and_counts_on_above_all_it_said(server: ServerThread) -> None:
    client = server.attach()
    before = client.create("/a").zxid
    session = client.session_id
    server.stop()
    server.start()
    with Wire(server.port) as again:
        assert again.handshake(10_000, session, client.password, before).session_id == 0
    other = server.attach()
    answer = other.create("/a")
    assert answer.error == 0
    assert answer.zxid > before


def test_sessions_and_ephemerals_survive_a_durable_restart(tmp_path: Path) -> None:
    with ServerThread(EmbeddedServer(data_dir=tmp_path, min_session_timeout=200)) as server:
        client = server.attach()
        client.create("/e", flags=EPHEMERAL)
        last = client.create("/p/none")
        assert last.error == -101
        server.stop()
        server.start()
        again = server.wire()
        response = again.handshake(300, client.session_id, client.password, last.zxid)
        assert response.session_id == client.session_id
        stat = again.body(records.Exists("/e", False))
        assert isinstance(stat, records.StatReply)
        assert stat.stat.ephemeral_owner == client.session_id
        assert again.create("/next").zxid == last.zxid + 1
        other = server.attach()
        assert other.session_id > client.session_id
        other.body(records.Exists("/e", True))
        again.close()
        assert wait_event(other) == Event(2, "/e")


def wait_event(client: Wire) -> Event:
    """The next event, fetched with pings."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        events = client.ask(records.Ping()).events
        if events:
            return events[0]
        time.sleep(0.01)
    raise TimeoutError("no event came")


def test_a_server_with_short_logs_takes_snapshots_and_loses_nothing(tmp_path: Path) -> None:
    limits = Limits(journal=20_000)
    with ServerThread(EmbeddedServer(data_dir=tmp_path, limits=limits)) as server:
        client = server.attach()
        for start in range(0, 600, 100):
            for index in range(start, start + 100):
                client.send(records.Create2(f"/n{index}", b"x" * 100, OPEN_ACL, 0))
            assert {client.receive().error for _ in range(100)} == {0}
        wait_until(lambda: len(list(tmp_path.glob("snapshot.*"))) == 1 and len(list(tmp_path.glob("log.*"))) == 1)
        (snapshot,) = tmp_path.glob("snapshot.*")
        assert int(snapshot.name.removeprefix("snapshot."), 16) > server.server.machine.started.unix // 1000 << 32
        server.stop()
        server.start()
        reply = server.attach().body(records.GetChildren("/", False))
        assert isinstance(reply, records.ChildrenReply)
        assert len(reply.children) == 601


def create_until_the_end(client: Wire) -> int:
    """How many creates the server acknowledged before it closed."""
    acknowledged = 0
    try:
        while client.create(f"/n{acknowledged}", b"x" * 1000).error == 0:
            acknowledged += 1
    except ConnectionEnded:
        return acknowledged
    raise AssertionError("the server refused a create")


def test_a_full_disk_stops_the_server_and_acknowledges_nothing_more(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow beyond 64 KiB."""
    program = textwrap.dedent(
        """
        import asyncio, resource, signal, sys
        from herdmaster.zookeeper.server import EmbeddedServer
        from herdmaster.zookeeper.server.journal_errors import JournalError

        async def main():
            server = EmbeddedServer(data_dir=sys.argv[1])
            await server.start()
            print(server.port, flush=True)
            try:
                await server.wait_stopped()
            except JournalError as error:
                print(error, flush=True)

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        asyncio.run(main())
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    client = Wire(int(process.stdout.readline()))
    client.handshake()
    acknowledged = create_until_the_end(client)
    client.close()
    output, errors = process.communicate(timeout=20)
    assert "cannot write to" in output
    assert "stops serving" in errors
    assert 30 < acknowledged < 70
    with ServerThread(EmbeddedServer(data_dir=tmp_path)) as server:
        reply = server.attach().body(records.GetChildren("/", False))
        assert isinstance(reply, records.ChildrenReply)
        assert acknowledged <= len(reply.children) - 1 <= acknowledged + 1


def test_expired_sessions_lose_their_ephemerals_after_their_timeout_and_not_before(server: ServerThread) -> None:
    other = server.attach()
    client = server.attach(400)
    begin = time.monotonic()
    client.create("/e", flags=EPHEMERAL)
    other.body(records.Exists("/e", True))
    assert wait_event(other) == Event(2, "/e")
    assert time.monotonic() - begin >= 0.4
    client.wait_ended()


def test_time_can_be_moved(server: ServerThread) -> None:
    client, other = server.attach(30_000), server.attach(40_000)
    client.create("/e", flags=EPHEMERAL)
    other.create("/before")
    server.run(lambda: server.server.advance(31_000))
    client.wait_ended()
    assert other.ask(records.Exists("/e", False)).error == -101
    other.create("/after")
    stats = [other.body(records.Exists(path, False)) for path in ("/before", "/after")]
    times = [reply.stat.ctime for reply in stats if isinstance(reply, records.StatReply)]
    assert times[1] - times[0] >= 31_000


def test_a_session_can_be_expired_and_a_connection_dropped(server: ServerThread) -> None:
    client, other = server.attach(), server.attach()
    server.run(lambda: server.server.drop_connections(client.session_id))
    client.wait_ended()
    assert other.ask(records.Sync("/")).error == 0
    again = server.wire()
    assert again.handshake(10_000, client.session_id, client.password).session_id == client.session_id
    server.run(lambda: server.server.expire_session(client.session_id))
    again.wait_ended()
    with Wire(server.port) as late:
        assert late.handshake(10_000, client.session_id, client.password).session_id == 0
    server.run(server.server.drop_connections)
    other.wait_ended()


def test_four_letter_words_come_in_one_piece_over_tcp(server: ServerThread) -> None:
    for word, start in ((b"ruok", b"imok"), (b"srvr", b"Zookeeper version: "), (b"conf", b"clientPort=")):
        with Wire(server.port) as connection:
            connection.socket.sendall(word)
            assert connection.socket.recv(8192).startswith(start)
            assert connection.socket.recv(1) == b""


def test_a_client_that_sends_no_more_still_gets_its_answers(tmp_path: Path) -> None:
    """As `nc -N` does it with a four-letter word. With a journal, answers take longer than the end does to arrive."""
    with ServerThread(EmbeddedServer(data_dir=tmp_path)) as server:
        client, asker = server.attach(), server.wire()
        for index in range(1000):
            client.send(records.Create(f"/n{index}", b"", OPEN_ACL, 0))
        client.socket.shutdown(socket.SHUT_WR)
        asker.socket.sendall(b"ruok")
        asker.socket.shutdown(socket.SHUT_WR)
        assert asker.socket.recv(100) == b"imok"
        assert {client.receive().error for _ in range(1000)} == {0}
        client.wait_ended()
        wait_until(lambda: not server.server.machine.connections)


class Slow:
    """Delays the answer to every sync."""

    def __init__(self, milliseconds: int = 40) -> None:
        self._milliseconds = milliseconds

    def before(self, arrival: Arrival, /) -> Refuse | None:
        return Refuse() if isinstance(arrival.request, records.Delete) else None

    def after(self, arrival: Arrival, /) -> Delay | None:
        return Delay(self._milliseconds) if isinstance(arrival.request, records.Sync) else None


@pytest.mark.parametrize(
    "state", ["idle", "with a delayed answer", "that reads nothing", "that neither reads nor sends"]
)
def test_a_session_that_moves_to_a_new_connection_ends_the_old_one(state: str) -> None:
    with ServerThread(EmbeddedServer(faults=Slow(30_000))) as server:
        old = server.attach(40_000)
        (connection,) = server.server.machine.connections
        if state == "with a delayed answer":
            old.send(records.Sync("/"))
            wait_until(lambda: bool(connection.held))
        elif state != "idle":
            old.create("/big", bytes(1_000_000))
            for _ in range(50):
                old.send(records.GetData("/big", False))
            wait_until(lambda: bool(connection.backlog))
        if state == "half closed, unread":
            old.socket.shutdown(socket.SHUT_WR)

        new = server.wire()
        assert new.handshake(40_000, old.session_id, old.password).session_id == old.session_id
        old.wait_ended()
        wait_until(lambda: connection not in server.server.machine.connections)
        assert new.create("/a").error == 0


def test_watch_events_reach_a_hundred_sessions(server: ServerThread) -> None:
    clients = [server.attach() for _ in range(100)]
    for client in clients:
        client.body(records.AddWatch("/n", 0))
    server.attach().create("/n")
    for client in clients:
        assert client.ask(records.Sync("/")).events == (Event(1, "/n"),)
        client.close()


def test_pipelined_requests_of_several_clients_are_answered_in_order(tmp_path: Path) -> None:
    with ServerThread(EmbeddedServer(data_dir=tmp_path)) as server:
        clients = [server.attach() for _ in range(4)]
        for index in range(300):
            for number, client in enumerate(clients):
                client.send(records.Create2(f"/{number}-{index}", b"", OPEN_ACL, 0), xid=2 * index + 1)
                client.send(records.Exists(f"/{number}-{index}", False), xid=2 * index + 2)
        for client in clients:
            answers: list[Answer] = [client.receive() for _ in range(600)]
            assert [answer.xid for answer in answers] == list(range(1, 601))
            assert {answer.error for answer in answers} == {0}
            zxids = [answer.zxid for answer in answers]
            assert zxids == sorted(zxids)


@pytest.mark.long
async def test_a_stalled_process_does_not_expire_its_own_clients() -> None:
    """Server and client share one loop, which is blocked for longer than the session's timeout."""
    async with EmbeddedServer(min_session_timeout=300, tick_time=50) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(ConnectRequest(0, 300, 0, b"\0" * 16).encode())
        await reader.readexactly(41)

        async def ping() -> None:
            while True:
                writer.write(encode_request(-2, records.Ping()))
                await reader.readexactly(20)
                await asyncio.sleep(0.1)

        pings = asyncio.create_task(ping())
        await asyncio.sleep(0.25)
        time.sleep(1.0)  # noqa: ASYNC251 - the stall
        await asyncio.sleep(0.5)
        assert not pings.done()
        assert len(server.machine.state.sessions) == 1
        pings.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pings
        writer.close()
        await writer.wait_closed()


def test_faults_work_on_tcp_and_a_delay_does_not_wait_for_the_next_tick() -> None:
    with ServerThread(EmbeddedServer(faults=Slow(), tick_time=10_000, max_session_timeout=60_000)) as server:
        client = server.attach(30_000)
        assert client.ask(records.Delete("/a", -1)).error == -127
        begin = time.monotonic()
        assert client.ask(records.Sync("/")).error == 0
        assert 0.04 <= time.monotonic() - begin < 5


def test_connections_that_come_while_it_stops_are_closed() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(10):
            with ServerThread(EmbeddedServer()) as server, socket.create_connection(("127.0.0.1", server.port)):
                pass
        gc.collect()
    assert [str(each.message) for each in caught if issubclass(each.category, ResourceWarning)] == []
