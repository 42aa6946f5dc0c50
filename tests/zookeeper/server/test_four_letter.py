"""The four-letter words: what is this server's own. The rest is in tests/conformance."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest

from herdmaster.zookeeper.model import OPEN_ACL, Acl, Id
from herdmaster.zookeeper.server import EmbeddedServer
from herdmaster.zookeeper.server.instant import Instant
from herdmaster.zookeeper.server.latency import Latency
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_request
from tests.zookeeper.server.rig import Rig
from tests.zookeeper.server.threaded import ServerThread


def ask(rig: Rig, word: bytes) -> str:
    peer = rig.peer()
    peer.send(word)
    assert peer.is_closed
    return peer.raw.decode()


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_follows_a_word_is_ignored(rig: Rig) -> None:
    assert ask(rig, b"ruok and more") == "imok"


def test_a_word_that_is_not_offered_says_so(rig: Rig) -> None:
    assert ask(rig, b"crst") == "crst is not executed because it is not in the whitelist.\n"


def test_srvr_tells_what_clients_look_for(rig: Rig) -> None:
    rig.client().create("/a")
    lines = ask(rig, b"srvr").splitlines()
    assert re.fullmatch(r"Zookeeper version: 3\.9\.2-\w+, built on \d{4}-\d\d-\d\d \d\d:\d\d UTC", lines[0])
    assert "Mode: standalone" in lines
    assert "Zxid: 0x2" in lines
    assert "Node count: 6" in lines
    assert "Connections: 2" in lines


def test_the_latency_is_that_from_a_requests_arrival_until_its_answer_left(rig: Rig) -> None:
    client = rig.client()
    connection = client.connection
    rig.machine.latency = connection.latency = Latency()
    for waited, requests in ((5, 2), (0, 1)):
        frames = b"".join(encode_request(xid, records.Sync("/")) for xid in range(requests))
        rig.machine.receive(connection, frames, rig.now)
        arrivals = connection.take_arrivals()
        rig.settle()
        rig.now = Instant(rig.now.monotonic + waited, rig.now.unix + waited)
        rig.machine.note_delivered(connection, arrivals, rig.now)

    assert "Latency min/avg/max: 0/3.3333/5" in ask(rig, b"srvr").splitlines()
    told = dict(line.split("\t") for line in ask(rig, b"mntr").splitlines())
    assert [told[f"zk_{name}_latency"] for name in ("min", "avg", "max")] == ["0", "3.3333", "5"]
    (cons,) = [line for line in ask(rig, b"cons").splitlines() if "sid=" in line]
    assert cons.endswith(f",lresp={rig.now.monotonic},llat=0,minlat=0,avglat=3,maxlat=5)")


def test_the_version_is_the_first_3_9_whose_exists_needs_read(rig: Rig) -> None:
    owner, other = rig.client(), rig.client()
    owner.request(records.Auth(0, "digest", b"user:password"))
    owner.create("/mine", acl=(Acl(31, Id("auth", "")),))
    assert other.error(records.Exists("/mine", False)) == -102
    assert "Zookeeper version: 3.9.2-" in ask(rig, b"srvr")


def test_the_connection_that_asks_changes_nothing_that_it_is_told(rig: Rig) -> None:
    client = rig.client()
    client.body(records.Sync("/"))
    packets = ("Received: 2", "Sent: 2")
    for word in (b"srvr", b"mntr", b"ruok", b"cons", b"srvr"):
        told = ask(rig, word)
        assert word != b"srvr" or set(packets) <= set(told.splitlines())
    dump = ask(rig, b"dump").splitlines()
    start = dump.index("Connections dump:")
    session = f"0x{client.session_id:x}"
    assert dump[start + 1 :] == ["Connections Sets (1)/(1):", f"\tip: /127.0.0.1:4711 sessionId: {session}"]


def test_mntr_tells_how_many_files_are_open_and_may_be() -> None:
    with ServerThread(EmbeddedServer()) as server:
        before = mntr_of(server)
        others = [server.attach() for _ in range(3)]
        after = mntr_of(server)
    assert len(others) == 3
    # The connections' ends are all in this process, and threads of other tests may still close something.
    assert int(after["zk_open_file_descriptor_count"]) - int(before["zk_open_file_descriptor_count"]) in range(4, 7)
    assert int(after["zk_max_file_descriptor_count"]) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_conf_tells_what_the_driver_says(rig: Rig) -> None:
    rig.machine.about["clientPort"] = "2181"
    assert ask(rig, b"conf") == "clientPort=2181\n"


def test_conf_finds_out_what_changes_when_it_is_asked(rig: Rig) -> None:
    sizes = iter(["1", "2"])
    rig.machine.about["dataDirSize"] = lambda: next(sizes)
    assert [ask(rig, b"conf") for _ in range(2)] == ["dataDirSize=1\n", "dataDirSize=2\n"]


def lines_of(server: ServerThread, word: bytes) -> list[str]:
    with server.wire() as wire:
        wire.socket.sendall(word)
        data = b""
        while chunk := wire.socket.recv(8192):
            data += chunk
    return data.decode().splitlines()


def conf_of(server: ServerThread) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines_of(server, b"conf"))


def mntr_of(server: ServerThread) -> dict[str, str]:
    return dict(line.split("\t") for line in lines_of(server, b"mntr"))


def test_conf_has_the_keys_of_apaches_server_in_its_order(tmp_path: Path) -> None:
    with ServerThread(EmbeddedServer(data_dir=tmp_path)) as server:
        before = conf_of(server)
        assert list(before) == [
            "clientPort",
            "secureClientPort",
            "dataDir",
            "dataDirSize",
            "dataLogDir",
            "dataLogSize",
            "tickTime",
            "maxClientCnxns",
            "minSessionTimeout",
            "maxSessionTimeout",
            "clientPortListenBacklog",
            "serverId",
        ]
        assert server.attach().ask(records.Create("/n", b"x" * 1000, OPEN_ACL, 0)).error == 0
        after = conf_of(server)
        for key, kind in (("dataDirSize", "snapshot.*"), ("dataLogSize", "log.*")):
            assert int(after[key]) == sum(path.stat().st_size for path in tmp_path.glob(kind))
        assert int(after["dataLogSize"]) - int(before["dataLogSize"]) > 1000


def test_without_a_data_directory_conf_tells_that_nothing_is_kept() -> None:
    with ServerThread(EmbeddedServer()) as server:
        told = conf_of(server)
    assert [told[key] for key in ("dataDir", "dataDirSize", "dataLogDir", "dataLogSize")] == ["", "0", "", "0"]


def test_envi_names_the_version_as_clients_parse_it(rig: Rig) -> None:
    lines = ask(rig, b"envi").splitlines()
    assert lines[0] == "Environment:"
    assert lines[1].startswith("zookeeper.version=3.9.")
    assert ", built on " in lines[1]
