"""A server with a data directory is killed under load, again and again: no acknowledged write is lost."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import ConnectResponse
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiReply
from herdmaster.zookeeper.wire.primitives import Reader
from tests.zookeeper.server.process import Process
from tests.zookeeper.server.wire import ConnectionEnded, Wire

_LOADS = 3


class Load(threading.Thread):
    """One client that writes as fast as it can and remembers what was acknowledged.

    Its writes are of three kinds: a create, a sequential pair in a multi, and a counter's next value.
    """

    def __init__(self, port: int, name: str) -> None:
        super().__init__(name=name)
        self._port = port
        self.created: set[str] = set()
        self.unsure: set[str] = set()
        self.counter = 0
        self.pairs = 0
        self.session_id = 0
        self.password = b""
        self.last_zxid = 0
        self.has_begun = False
        self.found: dict[str, bytes] | None = None
        """What was there after the kill, and has to be there for ever: it is not written to any more."""

    def run(self) -> None:
        with Wire(self._port) as wire, contextlib.suppress(ConnectionEnded, ConnectionError):
            wire.handshake(30_000)
            self.session_id, self.password = wire.session_id, wire.password
            self._write(wire)

    def _write(self, wire: Wire) -> None:
        assert wire.create(f"/{self.name}").error in (0, -110)
        assert wire.ask(records.Create(f"/{self.name}/e", b"", OPEN_ACL, 1)).error == 0
        self.has_begun = True
        number = 0
        while True:
            paths = [f"/{self.name}/{number}-{index}" for index in range(20)]
            number += 1
            for path in paths:
                self.unsure.add(path)
                wire.send(records.Create(path, b"x" * 200, OPEN_ACL, 0))
            pair = tuple(records.Create(f"/{self.name}/pair-", b"", OPEN_ACL, 2) for _ in range(2))
            wire.send(Multi(pair))
            wire.send(records.SetData(f"/{self.name}", str(self.counter + 1).encode(), -1))
            for path in paths:
                answer = wire.receive()
                assert answer.error == 0
                self.created.add(path)
                self.last_zxid = answer.zxid
            reply = MultiReply.read(Reader(wire.receive().body))
            assert not any(isinstance(result, ErrorResult) for result in reply.results)
            self.pairs += 1
            assert wire.receive().error == 0
            self.counter += 1


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "data")
    yield process
    process.kill()


def kill_and_look(process: Process, source: random.Random, earlier: list[Load]) -> None:
    """One round: load, SIGKILL at a random moment, restart, and everything acknowledged is there, also that of all
    rounds before. Adds the round's loads to those."""
    # In two rounds of three the log is so short that snapshots are being written all the time, also while all is
    # looked at, for sessions that attach are transactions.
    number = len(earlier) // _LOADS
    journal = 30_000 if number % 3 else 1 << 26
    process.start(journal)
    loads = [Load(process.port, f"r{number}-{index}") for index in range(_LOADS)]
    for load in loads:
        load.start()
    time.sleep(source.uniform(0.05, 0.6))
    process.kill()
    for load in loads:
        load.join(20)
        assert not load.is_alive()
    process.start(journal)
    for load in loads:
        if load.session_id:
            look(process.port, load)
    with Wire(process.port) as wire:
        wire.handshake()
        for load in earlier:
            if load.found is not None:
                assert contents(wire, load) == load.found
    process.kill()
    earlier += loads


def look(port: int, load: Load) -> None:
    with Wire(port) as wire:
        # The session survived, and the counter of transactions is not behind anything that was acknowledged.
        response: ConnectResponse = wire.handshake(30_000, load.session_id, load.password, load.last_zxid)
        assert response.session_id == load.session_id
        if not load.has_begun:
            return
        reply = wire.body(records.GetChildren(f"/{load.name}", False))
        assert isinstance(reply, records.ChildrenReply)
        names = {f"/{load.name}/{name}" for name in reply.children}
        assert load.created <= names
        pairs = sorted(name for name in names if "/pair-" in name)
        assert len(pairs) % 2 == 0, "half a transaction is there"
        assert load.pairs <= len(pairs) // 2 <= load.pairs + 1
        assert names - load.created - set(pairs) - {f"/{load.name}/e"} <= load.unsure
        data = wire.body(records.GetData(f"/{load.name}", False))
        assert isinstance(data, records.DataReply)
        assert load.counter <= int(data.data or b"0") <= load.counter + 1
        stat = wire.body(records.Exists(f"/{load.name}/e", False))
        assert isinstance(stat, records.StatReply)
        assert stat.stat.ephemeral_owner == load.session_id
        load.found = contents(wire, load)


def contents(wire: Wire, load: Load) -> dict[str, bytes]:
    """Everything that a load left, but its ephemeral, which goes with the session."""
    folder = f"/{load.name}"
    reply = wire.body(records.GetChildren(folder, False))
    assert isinstance(reply, records.ChildrenReply)
    paths = [folder, *(f"{folder}/{name}" for name in reply.children if name != "e")]
    for path in paths:
        wire.send(records.GetData(path, False))
    found = {}
    for path in paths:
        answer = wire.receive()
        assert answer.error == 0
        found[path] = answer.body
    return found


def run_rounds(process: Process, count: int) -> None:
    source = random.Random(os.environ.get("HERD_SEED", "kill"))
    loads: list[Load] = []
    snapshots: set[str] = set()
    for _ in range(count):
        kill_and_look(process, source, loads)
        snapshots |= process.snapshots()
    assert sum(len(load.created) for load in loads) > 10 * count, "the load was too light to prove anything"
    assert len(snapshots) > count // 2, "too few snapshots were taken to prove anything"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_server_killed_under_load_loses_no_acknowledged_write(process: Process) -> None:
    run_rounds(process, 5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_killed_fifty_times_under_load_loses_no_acknowledged_write(process: Process) -> None:
    run_rounds(process, 50)
