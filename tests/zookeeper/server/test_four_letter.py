"""The four-letter words."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.wire import records
from tests.zookeeper.server.rig import Peer, Rig


def ask(rig: Rig, word: bytes) -> str:
    peer = rig.peer()
    peer.send(word)
    assert peer.is_closed
    return peer.raw.decode()


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_ruok_and_isro_answer_without_a_newline(rig: Rig) -> None:
    assert ask(rig, b"ruok") == "imok"
    assert ask(rig, b"isro") == "rw"


def test_a_word_may_dribble_in_and_what_follows_is_ignored(rig: Rig) -> None:
    peer = rig.peer()
    for byte in b"ruok":
        assert not peer.is_closed
        peer.send(bytes([byte]))
    assert bytes(peer.raw) == b"imok"
    assert ask(rig, b"ruok and more") == "imok"


@pytest.mark.parametrize("word", [b"abcd", b"\xff\xff\xff\xff", b"RUOK", b"\0\0\0\0"])
def test_an_unknown_word_closes_with_nothing(rig: Rig, word: bytes) -> None:
    assert ask(rig, word) == ""


def test_a_word_that_is_not_offered_says_so(rig: Rig) -> None:
    assert ask(rig, b"crst") == "crst is not executed because it is not in the whitelist.\n"


def test_srvr_tells_what_clients_look_for(rig: Rig) -> None:
    rig.client().create("/a")
    lines = ask(rig, b"srvr").splitlines()
    assert lines[0].startswith("Zookeeper version: 3.9.")
    assert "Mode: standalone" in lines
    assert "Zxid: 0x2" in lines
    assert "Node count: 6" in lines
    assert "Connections: 2" in lines


def test_stat_and_cons_name_every_connection(rig: Rig) -> None:
    client = rig.client()
    client.body(records.SetWatches(0, (), (), ()))
    assert " /127.0.0.1:4711[1](queued=0,recved=2,sent=2)\n" in ask(rig, b"stat")
    cons = ask(rig, b"cons")
    assert f",sid=0x{client.session_id:x}," in cons
    assert ",to=10000,lcxid=0x1," in cons


def test_mntr_is_key_tab_value(rig: Rig) -> None:
    client = rig.client()
    client.create("/e", flags=1)
    client.body(records.GetData("/e", True))
    values = dict(line.split("\t") for line in ask(rig, b"mntr").splitlines())
    assert values["zk_server_state"] == "standalone"
    assert values["zk_znode_count"] == "6"
    assert values["zk_ephemerals_count"] == "1"
    assert values["zk_watch_count"] == "1"
    assert values["zk_global_sessions"] == "1"
    assert int(values["zk_packets_received"]) == 3


def test_conf_tells_what_the_driver_says(rig: Rig) -> None:
    rig.machine.about["clientPort"] = "2181"
    assert ask(rig, b"conf") == "clientPort=2181\n"


def test_envi_names_the_version_as_clients_parse_it(rig: Rig) -> None:
    lines = ask(rig, b"envi").splitlines()
    assert lines[0] == "Environment:"
    assert lines[1].startswith("zookeeper.version=3.9.")


def test_dump_lists_sessions_and_their_ephemerals(rig: Rig) -> None:
    client = rig.client()
    client.create("/e", flags=1)
    session = f"0x{client.session_id:x}"
    lines = ask(rig, b"dump").splitlines()
    assert lines[:2] == ["SessionTracker dump:", "Session Sets (1)/(1):"]
    assert f"\t{session}" in lines
    start = lines.index("Sessions with Ephemerals (1):")
    assert lines[start + 1 : start + 3] == [f"{session}:", "\t/e"]


def watcher(rig: Rig) -> Peer:
    client = rig.client()
    client.error(records.Exists("/a", True))
    client.error(records.Exists("/b", True))
    client.body(records.GetChildren("/", True))
    return client


def test_wchs_counts_the_data_table_only(rig: Rig) -> None:
    watcher(rig)
    assert ask(rig, b"wchs") == "1 connections watching 2 paths\nTotal watches:2\n"


def test_wchc_and_wchp_group_watches_by_session_and_by_path(rig: Rig) -> None:
    session = f"0x{watcher(rig).session_id:x}"
    assert ask(rig, b"wchc") == f"{session}\n\t/a\n\t/b\n\n"
    assert ask(rig, b"wchp") == f"/a\n\t{session}\n/b\n\t{session}\n\n"
