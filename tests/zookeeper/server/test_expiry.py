"""How sessions end, by request or by silence, and what the clock does to sessions and znodes."""

from __future__ import annotations

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.server.settings import Settings
from herdmaster.zookeeper.wire import records
from tests.zookeeper.server.rig import Event, Rig

EPHEMERAL = 1


def test_a_lost_connection_leaves_the_session_until_its_time_is_over() -> None:
    rig = Rig()
    client, other = rig.client(4000), rig.client(40_000)
    client.create("/e", flags=EPHEMERAL)
    rig.disconnect(client)
    rig.advance(4000)
    assert other.error(records.Exists("/e", True)) == 0
    rig.advance(100)
    assert other.take_events() == [Event(2, "/e")]
    assert other.error(records.Exists("/e", False)) == -101


def test_expiry_closes_without_a_word() -> None:
    rig = Rig()
    client = rig.client(4000)
    client.create("/e", flags=EPHEMERAL)
    client.body(records.GetData("/e", True))
    rig.advance(4100)
    assert client.inbox == []
    assert client.is_closed


def test_any_request_is_a_sign_of_life() -> None:
    rig = Rig()
    client = rig.client(4000)
    for _ in range(10):
        rig.advance(3900)
        client.request(records.Ping())
    assert not client.is_closed


def test_expiry_and_closing_take_one_zxid_each_and_all_ephemerals_share_it() -> None:
    rig = Rig()
    client, other = rig.client(4000), rig.client(40_000)
    for name in "abc":
        client.create(f"/{name}", flags=EPHEMERAL)
    other.body(records.AddWatch("/", 1))
    rig.advance(4100)
    assert [event.type for event in other.take_events()] == [2, 2, 2]
    assert other.event_zxids == [6, 6, 6]
    assert rig.state.zxid == 6


def test_a_machine_that_goes_on_keeps_sessions_whose_time_starts_afresh() -> None:
    rig = Rig()
    client = rig.client(4000)
    client.create("/e", flags=EPHEMERAL)
    later = Rig(state=rig.state)
    later.advance(4000)
    assert later.reattach(client).error(records.Exists("/e", False)) == 0


def test_times_of_znodes_are_the_clocks() -> None:
    rig = Rig()
    client = rig.client()
    client.create("/a")
    rig.advance(1234)
    client.body(records.SetData("/a", b"", -1))
    stat = client.stat("/a").stat
    assert (stat.mtime, stat.ctime) == (rig.now.unix, rig.now.unix - 1234)


def test_the_sweep_removes_empty_containers_and_old_ttl_nodes_and_tells_watchers() -> None:
    rig = Rig(Settings(sweep_interval=1000, max_timeout=10**6))
    client = rig.client(10**6)
    client.body(records.CreateContainer("/c", b"", OPEN_ACL, 4))
    client.create("/c/x")
    client.body(records.CreateTtl("/t", b"", OPEN_ACL, 5, 1500))
    client.body(records.GetData("/c", True))
    client.body(records.GetData("/t", True))
    client.body(records.Delete("/c/x", -1))
    rig.advance(1000)
    assert client.take_events() == [Event(2, "/c")]
    rig.advance(1000)
    assert client.take_events() == [Event(2, "/t")]


def test_next_due_names_the_next_moment_at_which_something_happens() -> None:
    rig = Rig(Settings(sweep_interval=60_000))
    assert rig.machine.next_due() == rig.now.monotonic + 60_000
    rig.client(4000)
    assert rig.machine.next_due() == rig.now.monotonic + 4100
