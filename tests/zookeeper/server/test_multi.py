"""Transactions and batched reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.zookeeper.model import OPEN_ACL, READ_ONLY_ACL, Acl
from herdmaster.zookeeper.server.effects import NodeCreated
from herdmaster.zookeeper.server.snapshots import snapshot_of
from herdmaster.zookeeper.server.transactions import Draft, prepare
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_request
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiRead, MultiReply, WriteOperation
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.zookeeper.server.rig import Answer, Event, Peer, Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def client(rig: Rig) -> Peer:
    return rig.client()


def create(path: str, flags: int = 0, acl: tuple[Acl, ...] = OPEN_ACL, data: bytes = b"") -> records.Create:
    return records.Create(path, data, acl, flags)


def run(client: Peer, *operations: WriteOperation) -> MultiReply:
    reply = client.body(Multi(operations))
    assert isinstance(reply, MultiReply)
    return reply


def codes(reply: MultiReply) -> list[int]:
    return [result.code if isinstance(result, ErrorResult) else 0 for result in reply.results]


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
    assert (stat.czxid, stat.pzxid, stat.num_children, stat.cversion) == (2, 2, 1, 3)
    assert client.stat("/a/s-0000000001").stat.czxid == 2


def test_a_result_shows_the_node_as_its_own_operation_left_it(client: Peer) -> None:
    client.create("/a")
    reply = run(client, records.SetData("/a", b"1", -1), records.SetData("/a", b"22", -1))
    stats = [result.stat for result in reply.results if isinstance(result, records.StatReply)]
    assert [(stat.version, stat.data_length) for stat in stats] == [(1, 1), (2, 2)]


def test_the_sample_of_a_failed_multi(client: Peer) -> None:
    client.create("/a")
    client.request(Multi((records.Check("/a", 7), create("/b"))))
    answer = client.inbox[-1]
    assert isinstance(answer, Answer)
    assert answer.error == 0
    # The sample's bytes, with their two bodies.
    expected = "ffffffff 00 ffffff99 ffffff99 ffffffff 00 fffffffe fffffffe ffffffff 01 ffffffff"
    assert answer.body[16:] == bytes.fromhex(expected)


def test_a_failure_names_the_operation_and_undoes_everything(rig: Rig, client: Peer) -> None:
    client.create("/p")
    client.create("/p/x")
    before = snapshot_of(rig.state, b"").nodes
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
    assert snapshot_of(rig.state, b"").nodes == before
    assert rig.state.zxid == 4
    assert client.create("/p/s-", flags=2) == "/p/s-0000000001"


def test_an_empty_multi_takes_a_zxid(rig: Rig, client: Peer) -> None:
    assert client.ask(Multi(())).zxid == 2


def test_events_fire_operation_by_operation_before_the_reply_and_not_after_a_failure(client: Peer) -> None:
    client.create("/p")
    client.body(records.GetChildren("/p", True))
    client.error(records.Exists("/p/a", True))
    run(client, create("/p/a"), records.Delete("/none", -1))
    assert client.take_events() == []
    client.request(Multi((create("/p/a"), records.SetData("/p/a", b"", -1), create("/p/b"))))
    assert client.inbox[:2] == [Event(1, "/p/a"), Event(4, "/p")]
    assert isinstance(client.inbox[2], Answer)
    assert set(client.event_zxids) == {4}


def test_result_types_follow_the_newer_servers(client: Peer) -> None:
    reply = run(
        client,
        records.Create2("/a", b"", OPEN_ACL, 0),
        create("/b", 4),
        records.CreateContainer("/c", b"", OPEN_ACL, 4),
        records.CreateTtl("/d", b"", OPEN_ACL, 5, 1000),
        create("/e"),
        records.CreateContainer("/f", b"", OPEN_ACL, 0),
    )
    assert reply.types == (15, 15, 15, 15, 1, 1)


def test_flags_4_inside_a_multi_make_a_container(rig: Rig, client: Peer) -> None:
    run(client, create("/b", 4))
    node = rig.state.tree.find("/b")
    assert node is not None
    assert node.container


def test_other_requests_inside_a_multi_make_all_of_it_unreadable(rig: Rig, client: Peer) -> None:
    inner = encode_request(0, records.GetData("/", False))[12:]
    header = int(OpCode.GET_DATA).to_bytes(4, "big") + b"\0" + b"\xff" * 4
    end = b"\xff" * 4 + b"\x01" + b"\xff" * 4
    client.raw_request(OpCode.MULTI, header + inner + end)
    answer = client.inbox[-1]
    assert isinstance(answer, Answer)
    assert (answer.zxid, answer.error) == (2, -5)
    client.raw_request(OpCode.MULTI, b"\0\0")
    assert client.error(records.Sync("/")) == 0


@pytest.mark.parametrize("flags", [5, 6])
def test_a_time_to_live_without_its_own_type_makes_a_multi_unreadable(rig: Rig, client: Peer, flags: int) -> None:
    assert client.error(Multi((create("/a"), create("/t", flags)))) == -5
    assert rig.state.zxid == 2
    assert client.error(records.Exists("/a", False)) == -101
    assert codes(run(client, records.Check("/none", -1), create("/t", flags))) == [-101, -2]


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
    run(client, records.Delete("/a", -1), create("/a", data=b"new"))
    stat = client.stat("/a").stat
    assert (stat.czxid, stat.version, stat.data_length) == (3, 0, 3)
    assert client.stat("/").stat.num_children == 2


def test_multi_read_answers_each_by_itself_and_sets_no_watch(rig: Rig, client: Peer) -> None:
    client.create("/a", b"data")
    operations = (records.GetData("/a", True), records.GetData("/none", False), records.GetChildren("/", True))
    answer = client.ask(MultiRead(operations))
    assert answer.zxid == 2
    reply = client.body(MultiRead(operations))
    assert isinstance(reply, MultiReply)
    assert reply.types == (4, -1, 8)
    first, second, third = reply.results
    assert isinstance(first, records.DataReply)
    assert first.data == b"data"
    assert second == ErrorResult(-101)
    assert third == records.ChildrenReply(("zookeeper", "a"))
    assert len(rig.machine.watches) == 0


def test_a_write_inside_a_multi_read_is_refused(client: Peer) -> None:
    client.raw_request(OpCode.MULTI_READ, encode_request(0, Multi((create("/x"),)))[12:])
    answer = client.inbox[-1]
    assert isinstance(answer, Answer)
    assert answer.error == -5
    assert client.error(records.Exists("/x", False)) == -101


NAMES = st.sampled_from(["/a", "/b", "/a/x", "/a/y", "/a/x/z"])
OPERATIONS = st.one_of(
    st.builds(create, NAMES, st.sampled_from([0, 1, 2, 3, 4])),
    st.builds(records.Delete, NAMES, st.sampled_from([-1, 0, 1])),
    st.builds(records.SetData, NAMES, st.binary(max_size=3), st.sampled_from([-1, 0, 1])),
    st.builds(records.Check, NAMES, st.sampled_from([-1, 0, 1])),
)


@given(st.lists(st.lists(OPERATIONS, max_size=6), max_size=8))
def test_a_multi_does_what_its_operations_do_one_by_one_or_nothing(batches: list[list[WriteOperation]]) -> None:
    """Against a machine that is asked singly: same tree but for zxids, until the first failure."""
    multi_rig, single_rig = Rig(), Rig()
    multi, single = multi_rig.client(), single_rig.client()
    for batch in batches:
        before = snapshot_of(multi_rig.state, b"").nodes
        reply = run(multi, *batch)
        if any(codes(reply)):
            assert snapshot_of(multi_rig.state, b"").nodes == before
            failed = next(index for index, code in enumerate(codes(reply)) if code)
            assert codes(reply)[:failed] == [0] * failed
            assert set(codes(reply)[failed + 1 :]) <= {-2}
            continue
        for operation in batch:
            if isinstance(operation, records.Create) and operation.flags == 4:
                operation = records.CreateContainer(operation.path, operation.data, operation.acl, 4)  # noqa: PLW2901
            if not isinstance(operation, records.Check):
                assert single.error(operation) == 0
    shapes = [
        [
            (node.path, node.data, node.version, node.created, node.container)
            for node in snapshot_of(rig.state, b"").nodes
        ]
        for rig in (multi_rig, single_rig)
    ]
    assert sorted(shapes[0], key=str) == sorted(shapes[1], key=str)


def test_a_multi_on_a_huge_folder_looks_only_at_what_it_names() -> None:
    rig = Rig()
    client = rig.client()
    client.create("/full")
    for index in range(100_000):
        rig.state.tree.apply(NodeCreated(f"/full/{index:06d}", b"", OPEN_ACL), 2, 0)
    draft = Draft(rig.state.tree)
    for number in range(200):
        effect = prepare(draft, create(f"/full/new-{number}"), client.connection.actor, ttl_allowed=True)
        assert effect is not None
        draft.note(effect)
    # The folder and the 200 new ones: a copy of the folder per transaction would be felt in every one.
    assert len(draft._shadows) == 201
