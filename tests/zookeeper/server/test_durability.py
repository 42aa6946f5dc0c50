"""Nothing is answered before it is on disk: the order of fsyncs, files and replies, on the real server."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.server import EmbeddedServer, Limits
from herdmaster.zookeeper.server.snapshots import snapshot_of
from herdmaster.zookeeper.wire import records
from tests.zookeeper.server.journals import SECRET, fresh, journal_in, the_log, transaction, write
from tests.zookeeper.server.threaded import ServerThread, wait_until
from tests.zookeeper.server.wire import Wire

_PATIENCE = 20.0


class Disk:
    """Stands in `os` between the journal and the files: what happened to which file, in order.

    An fsync waits while `is_open` is not set. `durable` is what each file had in it when its newest fsync began.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.happened: list[tuple[str, str]] = []
        self.durable: dict[str, bytes] = {}
        self.waiting = 0
        self.is_open = threading.Event()
        self.is_open.set()
        self._fsync, self._replace, self._unlink = os.fsync, os.replace, os.unlink
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)
        monkeypatch.setattr(os, "unlink", self.unlink)

    def fsync(self, descriptor: int) -> None:
        self.waiting += 1
        assert self.is_open.wait(_PATIENCE)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        content = path.read_bytes() if path.is_file() else b""
        self._fsync(descriptor)
        self.durable[path.name] = content
        self.happened.append(("fsync", path.name))
        self.waiting -= 1

    def replace(self, source: Path, target: Path) -> None:
        self._replace(source, target)
        self.happened.append(("name", target.name))

    def unlink(self, path: Path) -> None:
        self._unlink(path)
        self.happened.append(("unlink", path.name))

    def syncs_of(self, name: str) -> int:
        return self.happened.count(("fsync", name))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("which file a descriptor means is read from /proc")
    disk = Disk(monkeypatch)
    yield disk
    disk.is_open.set()


@pytest.fixture
def server(tmp_path: Path, disk: Disk) -> Iterator[ServerThread]:
    with ServerThread(EmbeddedServer(data_dir=tmp_path / "data")) as thread:
        yield thread


def is_silent(server: ServerThread, *wires: Wire) -> bool:
    """Whether nothing has come, or is to come, of what the server's loop has done so far."""
    for _ in range(5):
        server.run(lambda: None)
    return not select.select([wire.socket for wire in wires], [], [], 0.05)[0]


def test_a_write_is_answered_when_it_is_on_disk(server: ServerThread, disk: Disk, tmp_path: Path) -> None:
    client = server.attach()
    for number in range(20):
        data = f"written as number {number}".encode()
        assert client.create(f"/n{number}", data).error == 0
        assert data in disk.durable[the_log(tmp_path / "data").name]


def test_a_new_session_is_answered_when_it_is_on_disk(server: ServerThread, disk: Disk) -> None:
    disk.is_open.clear()
    client = server.wire()
    opening = threading.Thread(target=client.handshake)
    opening.start()
    wait_until(lambda: disk.waiting == 1)
    assert is_silent(server, client)
    disk.is_open.set()
    opening.join(_PATIENCE)
    assert client.session_id


def test_while_an_fsync_lasts_no_session_hears_of_the_write(server: ServerThread, disk: Disk) -> None:
    """Neither in a reply, nor in an event, nor in what a read shows."""
    writer, watcher, reader = server.attach(), server.attach(), server.attach()
    watcher.body(records.AddWatch("/n", 0))
    disk.is_open.clear()
    request = records.Create("/n", b"data", OPEN_ACL, 0)
    writer.send(request)
    wait_until(lambda: disk.waiting == 1)
    reader.send(records.GetData("/n", False))
    wait_until(lambda: any(each.last_opcode == 4 for each in server.server.machine.connections))
    assert is_silent(server, writer, watcher, reader)
    disk.is_open.set()
    assert writer.receive().error == 0
    assert reader.receive().error == 0
    assert [event.path for event in watcher.ask(records.Ping()).events] == ["/n"]


def has_arrived(wire: Wire) -> bool:
    """Tell whether the server's side of the connection has everything that was sent: the kernel may take its time."""
    return struct.unpack("i", fcntl.ioctl(wire.socket, termios.TIOCOUTQ, bytes(4))) == (0,)


def test_what_several_connections_bring_in_one_turn_shares_one_fsync(
    server: ServerThread, disk: Disk, tmp_path: Path
) -> None:
    clients = [server.attach() for _ in range(8)]
    log = the_log(tmp_path / "data").name
    before = disk.syncs_of(log)
    is_held, is_sent = threading.Event(), threading.Event()

    def hold() -> None:
        is_held.set()
        is_sent.wait(_PATIENCE)

    # The loop is held until all requests have arrived, so it finds them in one turn.
    held = threading.Thread(target=lambda: server.run(hold))
    held.start()
    assert is_held.wait(_PATIENCE)
    for number, client in enumerate(clients):
        client.send(records.Create(f"/n{number}", f"written by {number}".encode(), OPEN_ACL, 0))
    wait_until(lambda: all(map(has_arrived, clients)))
    is_sent.set()
    held.join(_PATIENCE)
    assert [client.receive().error for client in clients] == [0] * 8
    assert disk.syncs_of(log) == before + 1
    assert all(f"written by {number}".encode() in disk.durable[log] for number in range(8))


def test_what_comes_during_an_fsync_shares_the_next_one(server: ServerThread, disk: Disk, tmp_path: Path) -> None:
    clients = [server.attach() for _ in range(8)]
    log = the_log(tmp_path / "data").name
    before = disk.syncs_of(log)
    disk.is_open.clear()
    clients[0].send(records.Create("/n0", b"", OPEN_ACL, 0))
    wait_until(lambda: disk.waiting == 1)
    for number, client in enumerate(clients[1:], start=1):
        client.send(records.Create(f"/n{number}", b"", OPEN_ACL, 0))
    tree = server.server.machine.state.tree
    wait_until(lambda: all(tree.find(f"/n{number}") is not None for number in range(8)))
    assert is_silent(server, *clients)
    disk.is_open.set()
    assert [client.receive().error for client in clients] == [0] * 8
    assert disk.syncs_of(log) == before + 2


def test_the_first_files_are_on_disk_before_the_server_serves(disk: Disk, tmp_path: Path) -> None:
    """The log and the snapshot, and their names in the folder; the log before the snapshot has its name."""
    write(tmp_path)
    (snapshot,), log = tmp_path.glob("snapshot.*"), the_log(tmp_path)
    assert disk.happened == [
        ("fsync", f"{snapshot.name}.tmp"),
        ("fsync", tmp_path.name),
        ("fsync", log.name),
        ("fsync", tmp_path.name),
        ("name", snapshot.name),
        ("fsync", tmp_path.name),
    ]


def test_a_new_snapshot_is_on_disk_before_what_it_replaces_goes(disk: Disk, tmp_path: Path) -> None:
    journal = journal_in(tmp_path)
    state, _ = journal.open(fresh(), SECRET)
    (first,), old = tmp_path.glob("snapshot.*"), the_log(tmp_path)
    state.replay(transaction(101))
    disk.happened.clear()
    journal.append_and_rotate([transaction(101)], 101)
    new = the_log(tmp_path)
    assert disk.happened == [("fsync", old.name), ("fsync", new.name), ("fsync", tmp_path.name)]
    disk.happened.clear()
    journal.archive(snapshot_of(state, SECRET))
    journal.close()
    (snapshot,) = tmp_path.glob("snapshot.*")
    assert disk.happened == [
        ("fsync", f"{snapshot.name}.tmp"),
        ("name", snapshot.name),
        ("fsync", tmp_path.name),
        ("unlink", first.name),
        ("unlink", old.name),
    ]


def test_a_log_that_was_cut_is_on_disk_before_another_one_begins(disk: Disk, tmp_path: Path) -> None:
    write(tmp_path, [transaction(101)])
    torn = the_log(tmp_path)
    torn.write_bytes(torn.read_bytes() + b"torn")
    disk.happened.clear()
    write(tmp_path)
    assert disk.happened == [("fsync", torn.name), ("fsync", the_log(tmp_path).name), ("fsync", tmp_path.name)]


def test_a_busy_server_answers_from_disk_also_while_it_takes_snapshots(disk: Disk, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with ServerThread(EmbeddedServer(data_dir=folder, limits=Limits(journal=10_000))) as server:
        client = server.attach()
        for number in range(200):
            data = f"written as number {number} ".encode() * 10
            assert client.create(f"/n{number}", data).error == 0
            assert any(data in content for name, content in disk.durable.items() if not name.startswith("lock"))
    assert sum(kind == "name" for kind, _ in disk.happened) > 2, "no snapshot was taken"
