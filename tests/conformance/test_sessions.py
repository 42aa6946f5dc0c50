"""Fact sheet 1.4 (closing), 3.1 (zxids), 3.5 (ephemerals), 3.6 (order) and 3.11 (expiry, sync, pipelining).

Left out: what needs an ensemble; read-only mode; local sessions; the numbers of a wholly fresh server ("first session
= 1"), since one of the two is not fresh; the exact bounds of expiry (a tick apart at most), which a busy machine
blurs: the embedded server's are tested with time standing still.
"""

from __future__ import annotations

import time

import pytest

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import ConnectResponse, encode_request
from herdmaster.zookeeper.wire.multi import Multi
from herdmaster.zookeeper.wire.records import Record, Request
from tests.conformance.rig import MIN_TIMEOUT, Answer, Event, Peer, Rig

EPHEMERAL = 1
REFUSAL = ConnectResponse(0, 0, b"\0" * 16, False)


def zxid_now(peer: Peer) -> int:
    return peer.ask(records.Sync("/")).zxid


def test_a_write_takes_a_zxid_also_when_it_fails(client: Peer) -> None:
    zxids = [
        client.ask(request).zxid
        for request in (
            records.Create("/a", b"", OPEN_ACL, 0),
            records.Create("/a", b"", OPEN_ACL, 0),
            records.SetData("/a", b"", 7),
            records.Delete("/b", -1),
            records.SetAcl("/none", OPEN_ACL, -1),
            Multi((records.Check("/none", -1),)),
            Multi(()),
        )
    ]
    assert zxids == list(range(zxids[0], zxids[0] + 7))
    assert client.stat("/a").stat.czxid == zxids[0]


def test_what_changes_nothing_takes_no_zxid_and_tells_the_last_one(client: Peer) -> None:
    client.create("/a")
    zxid = client.stat("/a").stat.czxid
    requests: list[Request[Record]] = [
        records.GetData("/a", False),
        records.GetChildren("/a", False),
        records.Exists("/none", True),
        records.Sync("/a"),
        records.AddWatch("/other", 0),
        records.SetWatches(zxid, (), (), ()),
        records.GetEphemerals("/"),
        records.WhoAmI(),
    ]
    assert {client.ask(request).zxid for request in requests} == {zxid}


def test_a_session_takes_a_zxid_when_it_begins_and_when_it_ends(rig: Rig, client: Peer) -> None:
    before = zxid_now(client)
    session = rig.client()
    assert zxid_now(client) == before + 1
    session.request(records.CloseSession())
    assert session.answers[0].zxid == zxid_now(client) == before + 2


def test_all_ephemerals_of_a_session_go_at_one_zxid(rig: Rig, client: Peer, other: Peer) -> None:
    for path in ("/p", "/q"):
        client.create(path)
        other.create(f"{path}/e", flags=EPHEMERAL)
    other.request(records.CloseSession())
    assert {client.stat(path).stat.pzxid for path in ("/p", "/q")} == {other.answers[0].zxid}
    assert client.children("/p") == client.children("/q") == []


def test_closing_deletes_ephemerals_tells_the_closer_too_then_answers_and_closes(client: Peer, other: Peer) -> None:
    client.create("/e", flags=EPHEMERAL)
    client.body(records.GetData("/e", True))
    other.body(records.GetChildren("/", True))
    client.request(records.CloseSession(), xid=8)
    client.wait_closed()
    event, answer = client.inbox
    assert event == Event(2, "/e")
    assert isinstance(answer, Answer)
    assert (answer.xid, answer.error, answer.body) == (8, 0, b"")
    assert other.take_events() == [Event(4, "/")]
    assert other.error(records.Exists("/e", False)) == -101


def test_a_request_behind_the_closing_one_is_not_done(client: Peer, other: Peer) -> None:
    create = encode_request(9, records.Create("/late", b"", OPEN_ACL, 0))
    client.send(encode_request(8, records.CloseSession()) + create)
    client.wait_closed()
    # The server may close before it has read the second one, which can cost the first one's answer; and Apache's may
    # say, before it closes, that the session is over.
    assert [(answer.xid, answer.error) for answer in client.answers] in ([(8, 0)], [], [(8, 0), (9, -112)])
    assert other.error(records.Exists("/late", False)) == -101


@pytest.mark.long
def test_a_lost_connection_leaves_the_session_until_its_time_is_over(rig: Rig, other: Peer) -> None:
    client = rig.client(1500)
    since = time.monotonic()
    client.create("/e", flags=EPHEMERAL)
    assert other.error(records.Exists("/e", True)) == 0
    rig.disconnect(client)
    assert other.wait_events(1) == [Event(2, "/e")]
    assert time.monotonic() - since > 1.4
    assert other.error(records.Exists("/e", False)) == -101
    assert rig.peer().handshake(10_000, client.session_id, client.password) == REFUSAL


@pytest.mark.long
def test_expiry_closes_without_a_word_and_takes_one_zxid(rig: Rig, other: Peer) -> None:
    client = rig.client(1500)
    client.create("/e", flags=EPHEMERAL)
    client.inbox.clear()
    before = zxid_now(other)
    client.wait_closed()
    assert client.inbox == []
    assert zxid_now(other) == before + 1


def test_reattaching_with_a_shorter_timeout_shortens_the_life_of_the_session(rig: Rig, other: Peer) -> None:
    client = rig.client(60_000)
    client.create("/e", flags=EPHEMERAL)
    other.body(records.Exists("/e", True))
    rig.disconnect(rig.reattach(client, timeout=MIN_TIMEOUT))
    assert other.wait_events(1) == [Event(2, "/e")]


@pytest.mark.long
def test_any_request_is_a_sign_of_life(rig: Rig) -> None:
    client = rig.client(1500)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        assert client.error(records.GetData("/", False)) == 0
        time.sleep(0.1)  # fewer requests, all of them well within the timeout
    assert client.is_open()


def test_any_session_may_change_and_delete_an_ephemeral(client: Peer, other: Peer) -> None:
    client.create("/e", flags=EPHEMERAL)
    assert other.error(records.SetData("/e", b"", -1)) == 0
    assert other.error(records.Delete("/e", -1)) == 0


def test_get_ephemerals_lists_those_of_the_own_session_by_a_plain_prefix(client: Peer, other: Peer) -> None:
    for path in ("/ab", "/abc", "/x"):
        client.create(path, flags=EPHEMERAL)
    other.create("/other", flags=EPHEMERAL)

    def listed(prefix: str | None) -> list[str]:
        reply = client.body(records.GetEphemerals(prefix))
        assert isinstance(reply, records.ChildrenReply)
        return sorted(reply.children)

    for prefix in (None, "", "/", "  "):
        assert listed(prefix) == ["/ab", "/abc", "/x"]
    assert listed("/ab") == ["/ab", "/abc"]
    assert listed("/none") == []


def test_reattaching_drops_watches_and_credentials(rig: Rig, client: Peer, other: Peer) -> None:
    client.authenticate(b"al:pw")
    client.error(records.Exists("/n", True))
    client.body(records.AddWatch("/n", 0))
    again = rig.reattach(client)
    other.create("/n")
    assert again.take_events() == []
    identities = again.body(records.WhoAmI())
    assert isinstance(identities, records.WhoAmIReply)
    assert [(info.scheme, info.user) for info in identities.infos] == [("ip", "127.0.0.1")]


def test_thousands_of_pipelined_requests_are_answered_in_order_and_each_sees_those_before(client: Peer) -> None:
    client.create("/n")
    frames = []
    for number in range(2000):
        frames.append(encode_request(2 * number + 1, records.SetData("/n", b"%d" % number, number)))
        frames.append(encode_request(2 * number + 2, records.GetData("/n", False)))
    client.inbox.clear()
    client.send(b"".join(frames))
    answers = client.receive(4000)
    assert [answer.xid for answer in answers] == list(range(1, 4001))
    assert {answer.error for answer in answers} == {0}
    data = [answer.body[4 : 4 + int.from_bytes(answer.body[:4], "big")] for answer in answers[1::2]]
    assert data == [b"%d" % number for number in range(2000)]


def test_sync_echoes_any_string_and_looks_at_nothing(client: Peer) -> None:
    for path in ("/none", "no path\0 at all", ""):
        assert client.body(records.Sync(path)) == records.PathReply(path)
