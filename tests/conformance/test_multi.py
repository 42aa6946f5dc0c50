"""Fact sheet 2.4: multi and multiRead, with the rows of 3.1, 3.2 and 3.6 that are about multi."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import OPEN_ACL, READ_ONLY_ACL, Acl
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_request
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiRead, MultiReply, WriteOperation
from herdmaster.zookeeper.wire.opcodes import OpCode
from herdmaster.zookeeper.wire.records import Record, Request
from tests.conformance.rig import Answer, Event, Peer

END = b"\xff" * 4 + b"\x01" + b"\xff" * 4


def create(path: str, flags: int = 0, acl: tuple[Acl, ...] = OPEN_ACL, data: bytes = b"") -> records.Create:
    return records.Create(path, data, acl, flags)


def run(client: Peer, *operations: WriteOperation) -> MultiReply:
    reply = client.body(Multi(operations))
    assert isinstance(reply, MultiReply)
    return reply


def codes(reply: MultiReply) -> list[int]:
    return [result.code if isinstance(result, ErrorResult) else 0 for result in reply.results]


def part(request: Request[Record]) -> bytes:
    """An operation of a multi, whether it may be one or not."""
    return int(request.opcode).to_bytes(4, "big") + b"\0" + b"\xff" * 4 + encode_request(0, request)[12:]


def test_all_operations_share_one_zxid_and_see_those_before_them(client: Peer) -> None:
    reply = run(
        client,
        create("/a"),
        create("/a/b"),
        records.SetData("/a/b", b"1", 0),
        records.Check("/a/b", 1),
        create("/a/s-", 2),
        records.Delete("/a/b", 1),
    )
    assert reply.types == (1, 1, 5, 13, 1, 2)
    assert reply.results[4] == records.PathReply("/a/s-0000000001")
    stat = client.stat("/a").stat
    assert stat.czxid == stat.pzxid == client.stat("/a/s-0000000001").stat.czxid
    assert (stat.num_children, stat.cversion) == (1, 3)


def test_the_reply_has_the_zxid_of_what_it_did(client: Peer) -> None:
    answer = client.ask(Multi((create("/a"),)))
    assert client.stat("/a").stat.czxid == answer.zxid


def test_a_result_shows_the_node_as_its_own_operation_left_it(client: Peer) -> None:
    client.create("/a")
    reply = run(client, records.SetData("/a", b"1", -1), records.SetData("/a", b"22", -1))
    stats = [result.stat for result in reply.results if isinstance(result, records.StatReply)]
    assert [(stat.version, stat.data_length) for stat in stats] == [(1, 1), (2, 2)]


def test_the_sample_of_a_failed_multi(client: Peer) -> None:
    client.create("/a")
    answer = client.ask(Multi((records.Check("/a", 7), create("/b"))))
    assert answer.error == 0
    expected = "ffffffff 00 ffffff99 ffffff99 ffffffff 00 fffffffe fffffffe ffffffff 01 ffffffff"
    assert answer.body == bytes.fromhex(expected)


def test_a_failure_names_the_operation_and_undoes_everything(client: Peer) -> None:
    client.create("/p")
    client.create("/p/x")
    before = client.stat("/p"), client.stat("/p/x")
    reply = run(
        client,
        create("/p/s-", 2),
        records.Delete("/p/x", -1),
        records.SetData("/p", b"new", -1),
        records.Delete("/none", -1),
        create("/q"),
    )
    assert codes(reply) == [0, 0, 0, -101, -2]
    assert set(reply.types) == {-1}
    assert (client.stat("/p"), client.stat("/p/x")) == before
    assert client.children("/") == ["p", "zookeeper"]
    assert client.create("/p/s-", flags=2) == "/p/s-0000000001"


@pytest.mark.parametrize(("empty", "zxids"), [(Multi(()), 1), (MultiRead(()), 0)])
def test_an_empty_multi_is_an_end_marker_and_takes_a_zxid_unless_it_reads(
    client: Peer, empty: Multi | MultiRead, zxids: int
) -> None:
    before = client.ask(records.Sync("/")).zxid
    answer = client.ask(empty)
    assert (answer.error, answer.body) == (0, END)
    assert answer.zxid == client.ask(records.Sync("/")).zxid == before + zxids


def test_events_fire_operation_by_operation_before_the_reply_and_not_after_a_failure(client: Peer) -> None:
    client.create("/p")
    client.body(records.GetChildren("/p", True))
    client.error(records.Exists("/p/a", True))
    run(client, create("/p/a"), records.Delete("/none", -1))
    assert client.take_events() == []
    client.request(Multi((create("/p/a"), records.SetData("/p/a", b"", -1), create("/p/b"))))
    assert client.inbox[:2] == [Event(1, "/p/a"), Event(4, "/p")]
    assert isinstance(client.inbox[2], Answer)
    assert client.take_events() == [Event(1, "/p/a"), Event(4, "/p")]


def test_containers_and_times_to_live_are_answered_with_their_stat(client: Peer) -> None:
    reply = run(
        client,
        create("/b", 4),
        records.CreateContainer("/c", b"", OPEN_ACL, 4),
        records.CreateTtl("/d", b"", OPEN_ACL, 5, 60_000),
        create("/e"),
    )
    assert reply.types == (15, 15, 15, 1)
    for path, result in zip(("/b", "/c", "/d"), reply.results, strict=False):
        assert result == records.PathStatReply(path, client.stat(path).stat)


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_a_create2_is_taken_and_answered_with_its_path_at_least(client: Peer, flags: int) -> None:
    reply = run(client, records.Create2("/a", b"xy", OPEN_ACL, flags), create("/z"))
    path = f"/{client.children('/')[0]}"
    stat = client.stat(path).stat
    assert (stat.data_length, stat.ephemeral_owner) == (2, client.session_id if flags & 1 else 0)
    assert stat.czxid == client.stat("/z").stat.czxid
    # 3.8.0 to 3.8.3 leave the stat out, and say so by the type (ZOOKEEPER-4026).
    if reply.types[0] == OpCode.CREATE:
        assert reply.results[0] == records.PathReply(path)
    else:
        assert reply.types[0] == OpCode.CREATE2
        assert reply.results[0] == records.PathStatReply(path, stat)


def test_a_create2_that_is_refused_fails_the_multi(client: Peer) -> None:
    assert codes(run(client, create("/a"), records.Create2("/a", b"", OPEN_ACL, 0))) == [0, -110]
    assert client.children("/") == ["zookeeper"]


def test_flags_4_inside_a_multi_make_a_container(client: Peer) -> None:
    run(client, create("/b", 4), create("/b/x"))
    client.error(records.Exists("/b", True))
    client.body(records.Delete("/b/x", -1))
    assert client.wait_events(1) == [Event(2, "/b")]


@pytest.mark.parametrize(
    "request_",
    [
        records.Exists("/", False),
        records.GetData("/", False),
        records.SetAcl("/", OPEN_ACL, -1),
        records.GetChildren("/", False),
        records.Sync("/"),
    ],
)
def test_other_requests_inside_a_multi_make_all_of_it_unreadable(client: Peer, request_: Request[Record]) -> None:
    assert client.raw_request(OpCode.MULTI, part(create("/a")) + part(request_) + END).error == -5
    assert client.error(records.Exists("/a", False)) == -101


def test_a_multi_without_an_end_is_unreadable(client: Peer) -> None:
    assert client.raw_request(OpCode.MULTI, part(create("/a"))).error == -5
    assert client.raw_request(OpCode.MULTI, b"\0\0").error == -5
    assert client.error(records.Exists("/a", False)) == -101


def test_rights_and_paths_are_checked_inside_too(client: Peer) -> None:
    client.create("/locked", acl=READ_ONLY_ACL)
    assert codes(run(client, create("/locked/x"))) == [-102]
    assert codes(run(client, create("/x", acl=()))) == [-114]
    assert codes(run(client, records.Check("bad", -1))) == [-8]
    assert codes(run(client, create("/new", 99))) == [-8]
    assert codes(run(client, create("/new", acl=READ_ONLY_ACL), create("/new/x"))) == [0, -102]
    assert codes(run(client, create("/e", 1), create("/e/x"))) == [0, -108]
    assert codes(run(client, create("/t"), records.Delete("/t", -1), records.Delete("/t", -1))) == [0, 0, -101]
    assert codes(run(client, create("/n"), create("/n/m"), records.Delete("/n", -1))) == [0, 0, -111]


def test_a_node_may_be_deleted_and_made_again(client: Peer) -> None:
    client.create("/a", b"old")
    answer = client.ask(Multi((records.Delete("/a", -1), create("/a", data=b"new"))))
    stat = client.stat("/a").stat
    assert (stat.czxid, stat.version, stat.data_length) == (answer.zxid, 0, 3)


def test_multi_read_answers_each_by_itself_and_sets_no_watch(client: Peer, other: Peer) -> None:
    client.create("/a", b"data")
    operations = (records.GetData("/a", True), records.GetData("/none", False), records.GetChildren("/a", True))
    reply = client.body(MultiRead(operations))
    assert isinstance(reply, MultiReply)
    assert reply.types == (4, -1, 8)
    assert reply.results[0] == records.DataReply(b"data", client.stat("/a").stat)
    assert reply.results[1:] == (ErrorResult(-101), records.ChildrenReply(()))
    other.body(records.SetData("/a", b"", -1))
    other.create("/a/x")
    assert client.take_events() == []


@pytest.mark.parametrize(
    "request_", [create("/x"), records.Exists("/", False), records.GetChildren2("/", False), records.Delete("/x", -1)]
)
def test_a_multi_read_takes_nothing_but_data_and_children(client: Peer, request_: Request[Record]) -> None:
    body = part(records.GetData("/", False)) + part(request_) + END
    assert client.raw_request(OpCode.MULTI_READ, body).error == -5
    assert client.error(records.Exists("/x", False)) == -101
