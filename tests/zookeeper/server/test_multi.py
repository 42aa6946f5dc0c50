"""Transactions: what is inside the machine, and what 3.9 does. The rest is in tests/conformance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.zookeeper.model import OPEN_ACL, Acl
from herdmaster.zookeeper.server.effects import NodeCreated
from herdmaster.zookeeper.server.snapshots import snapshot_of
from herdmaster.zookeeper.server.transactions import Draft, Rules, prepare
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiReply, WriteOperation
from tests.zookeeper.server.rig import Peer, Rig


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


def test_the_events_of_a_transaction_carry_its_zxid(client: Peer) -> None:
    client.body(records.AddWatch("/", 1))
    run(client, create("/a"), records.SetData("/a", b"", -1))
    assert client.event_zxids == [2, 2]


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


@pytest.mark.parametrize("flags", [5, 6])
def test_a_time_to_live_without_its_own_type_makes_a_multi_unreadable(rig: Rig, client: Peer, flags: int) -> None:
    assert client.error(Multi((create("/a"), create("/t", flags)))) == -5
    assert rig.state.zxid == 2
    assert client.error(records.Exists("/a", False)) == -101
    assert codes(run(client, records.Check("/none", -1), create("/t", flags))) == [-101, -2]


NAMES = st.sampled_from(["/a", "/b", "/a/x", "/a/y", "/a/x/z"])
OPERATIONS = st.one_of(
    st.builds(create, NAMES, st.sampled_from([0, 1, 2, 3, 4])),
    st.builds(records.Delete, NAMES, st.sampled_from([-1, 0, 1])),
    st.builds(records.SetData, NAMES, st.binary(max_size=3), st.sampled_from([-1, 0, 1])),
    st.builds(records.Check, NAMES, st.sampled_from([-1, 0, 1])),
)


@pytest.mark.long
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


@pytest.mark.long
def test_a_multi_on_a_huge_folder_looks_only_at_what_it_names() -> None:
    rig = Rig()
    client = rig.client()
    client.create("/full")
    for index in range(100_000):
        rig.state.tree.apply(NodeCreated(f"/full/{index:06d}", b"", OPEN_ACL), 2, 0)
    draft = Draft(rig.state.tree)
    for number in range(200):
        effect = prepare(draft, create(f"/full/new-{number}"), client.connection.actor, Rules())
        assert effect is not None
        draft.note(effect)
    # The folder and the 200 new ones: a copy of the folder per transaction would be felt in every one.
    assert len(draft._shadows) == 201
