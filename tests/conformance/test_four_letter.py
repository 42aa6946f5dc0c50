"""Fact sheet 3.12: the four-letter words. Both servers offer all that the embedded one knows.

The default whitelist is in test_settings.py. Left out: what a server says while it starts; the wording of versions,
dates and latencies; counts of connections, since a connection that is gone may still be counted for a moment.
"""

from __future__ import annotations

import time

import pytest

from herdmaster.zookeeper.wire import records
from tests.conformance.rig import Peer, Rig


def lines(rig: Rig, word: bytes) -> list[str]:
    return rig.four_letter_word(word).splitlines()


def values(rig: Rig) -> dict[str, str]:
    return dict(line.split("\t") for line in lines(rig, b"mntr"))


def test_ruok_and_isro_answer_without_a_newline(rig: Rig) -> None:
    assert rig.four_letter_word(b"ruok") == "imok"
    assert rig.four_letter_word(b"isro") == "rw"


def test_a_word_may_dribble_in(rig: Rig) -> None:
    peer = rig.peer()
    for byte in b"ruok":
        peer.send(bytes([byte]))
    peer.wait_closed()
    assert bytes(peer.raw) == b"imok"


@pytest.mark.parametrize("word", [b"abcd", b"\xff\xff\xff\xff", b"RUOK", b"\0\0\0\0"])
def test_an_unknown_word_closes_with_nothing(rig: Rig, word: bytes) -> None:
    assert rig.four_letter_word(word) == ""


def test_a_word_inside_a_session_is_the_length_of_no_frame(client: Peer) -> None:
    client.send(b"ruok")
    client.wait_closed()
    assert client.inbox == []


def test_srvr_tells_what_clients_look_for(rig: Rig, client: Peer) -> None:
    client.create("/a")
    told = lines(rig, b"srvr")
    assert told[0].startswith("Zookeeper version: 3.")
    assert "Mode: standalone" in told
    assert f"Zxid: 0x{client.stat('/a').stat.czxid:x}" in told
    keys = [line.split(":")[0] for line in told[1:]]
    expected = ["Latency min/avg/max", "Received", "Sent", "Connections", "Outstanding", "Zxid", "Mode", "Node count"]
    assert keys == expected


def test_stat_and_cons_name_every_connection(rig: Rig, client: Peer) -> None:
    host, port = client.socket.getsockname()
    client.create("/a")
    deadline = time.monotonic() + 20
    # Apache's server counts an answer after the client may have it.
    while f" /{host}:{port}[1](queued=0,recved=2,sent=2)" not in (stat := lines(rig, b"stat")):
        assert time.monotonic() < deadline, stat
    assert stat[1] == "Clients:"
    (cons,) = [line for line in lines(rig, b"cons") if f"/{host}:{port}" in line]
    assert cons.startswith(f" /{host}:{port}[1](queued=0,recved=2,sent=2,sid=0x{client.session_id:x},lop=CREA,")
    assert ",to=30000,lcxid=0x1," in cons


def test_mntr_is_key_tab_value(rig: Rig, client: Peer) -> None:
    before = values(rig)
    client.create("/e", flags=1)
    client.body(records.GetData("/e", True))
    client.body(records.GetChildren("/", True))
    after = values(rig)
    assert after["zk_server_state"] == "standalone"
    assert after["zk_version"].startswith("3.")
    assert int(after["zk_znode_count"]) == int(before["zk_znode_count"]) + 1
    assert int(after["zk_approximate_data_size"]) > int(before["zk_approximate_data_size"])
    assert int(after["zk_packets_received"]) >= int(before["zk_packets_received"]) + 3
    assert (after["zk_ephemerals_count"], after["zk_global_sessions"]) == ("1", "1")
    assert int(after["zk_watch_count"]) == 2
    for name in ("avg_latency", "min_latency", "max_latency", "packets_sent", "num_alive_connections", "uptime"):
        assert float(after[f"zk_{name}"]) >= 0
    assert float(after["zk_min_latency"]) <= float(after["zk_avg_latency"]) <= float(after["zk_max_latency"])


def test_conf_is_key_equals_value(rig: Rig) -> None:
    told = dict(line.split("=", 1) for line in lines(rig, b"conf") if "=" in line)
    assert told["clientPort"] == str(rig.port)
    assert (told["tickTime"], told["minSessionTimeout"], told["maxSessionTimeout"]) == ("200", "400", "60000")


def test_envi_names_the_version_as_clients_parse_it(rig: Rig) -> None:
    told = lines(rig, b"envi")
    assert told[0] == "Environment:"
    assert told[1].startswith("zookeeper.version=3.")


def test_dump_lists_sessions_and_their_ephemerals(rig: Rig, client: Peer) -> None:
    client.create("/e", flags=1)
    session = f"0x{client.session_id:x}"
    told = lines(rig, b"dump")
    assert told[0] == "SessionTracker dump:"
    assert told[1].startswith("Session Sets (")
    assert f"\t{session}" in told
    start = told.index("Sessions with Ephemerals (1):")
    assert told[start - 1 : start + 3] == ["ephemeral nodes dump:", told[start], f"{session}:", "\t/e"]


def watch(client: Peer) -> str:
    client.error(records.Exists("/a", True))
    client.error(records.Exists("/b", True))
    client.body(records.GetChildren("/", True))
    return f"0x{client.session_id:x}"


def test_wchs_counts_the_data_table_only(rig: Rig, client: Peer) -> None:
    watch(client)
    assert rig.four_letter_word(b"wchs") == "1 connections watching 2 paths\nTotal watches:2\n"


def test_wchc_and_wchp_group_watches_by_session_and_by_path(rig: Rig, client: Peer) -> None:
    session = watch(client)
    by_session, by_path = rig.four_letter_word(b"wchc"), rig.four_letter_word(b"wchp")
    assert by_session.splitlines()[0] == session
    assert sorted(by_session.splitlines()[1:]) == ["", "\t/a", "\t/b"]
    assert sorted(by_path.splitlines()) == sorted(["/a", f"\t{session}", "/b", f"\t{session}", ""])
