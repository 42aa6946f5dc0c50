"""Paths, the order of checks, error codes, sequence numbers and ACLs of every request."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import CREATOR_ALL_ACL, OPEN_ACL, READ_ONLY_ACL, Acl, Id, Stat
from herdmaster.zookeeper.server.machine import Settings
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.records import Record, Request
from tests.zookeeper.server.rig import Peer, Rig

OK, UNIMPLEMENTED, MARSHALLING, BAD_ARGUMENTS = 0, -6, -5, -8
NO_NODE, NO_AUTH, BAD_VERSION, NO_CHILDREN, NODE_EXISTS, NOT_EMPTY, INVALID_ACL = (
    -101,
    -102,
    -103,
    -108,
    -110,
    -111,
    -114,
)
NOBODY = (Acl(31, Id("digest", "nobody:x")),)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def client(rig: Rig) -> Peer:
    return rig.client()


def create(path: str, flags: int = 0, acl: tuple[Acl, ...] = OPEN_ACL) -> records.Create:
    return records.Create(path, b"", acl, flags)


BAD_PATHS = [
    "a",
    "/a/",
    "//",
    "/a//b",
    "/.",
    "/..",
    "/a/./b",
    "/a\0b",
    "/\x1f",
    "/\x7f",
    "/\ud800",
    "/\uf8ff",
    "/\ufff0",
    "",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_set_data_set_acl_and_check_validate_the_path_first(client: Peer, path: str) -> None:
    assert client.error(records.SetData(path, b"", -1)) == BAD_ARGUMENTS
    assert client.error(records.SetAcl(path, (), -1)) == BAD_ARGUMENTS


@pytest.mark.parametrize("path", ["/...", "/a.b", "/ ", "/é", "/" + "x" * 4000, "/日本"])
def test_unusual_names_are_fine(client: Peer, path: str) -> None:
    assert client.create(path) == path


def test_create_looks_for_the_parent_before_it_validates(client: Peer) -> None:
    client.create("/x")
    assert client.error(create("nopath")) == BAD_ARGUMENTS
    assert client.error(create("/a\0")) == BAD_ARGUMENTS
    assert client.error(create("/x//b")) == NO_NODE
    assert client.error(create("x/y")) == NO_NODE
    assert client.error(create("/x/.")) == BAD_ARGUMENTS
    assert client.error(create("/x/")) == BAD_ARGUMENTS
    assert client.error(create("/")) == NODE_EXISTS
    assert client.create("/x/.", flags=2) == "/x/.0000000000"
    assert client.create("/x/", flags=2) == "/x/0000000001"


@pytest.mark.parametrize("path", ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "nopath", "/a\0", ""])
def test_what_cannot_be_deleted(client: Peer, path: str) -> None:
    assert client.error(records.Delete(path, -1)) == BAD_ARGUMENTS


def test_delete_takes_malformed_paths_for_absent_nodes(client: Peer) -> None:
    client.create("/a")
    for path in ("/a/", "/a//b", "/.", "//a"):
        assert client.error(records.Delete(path, -1)) == NO_NODE


@pytest.mark.parametrize("path", ["/a/", "a", "/.", "/a\0"])
def test_reads_look_up_whatever_they_are_given(client: Peer, path: str) -> None:
    client.create("/a")
    requests: list[Request[Record]] = [
        records.GetData(path, False),
        records.GetAcl(path),
        records.GetChildren(path, False),
        records.GetChildren2(path, False),
        records.GetAllChildrenNumber(path),
    ]
    assert {client.error(request) for request in requests} == {NO_NODE}
    assert client.error(records.Exists(path, False)) == (BAD_ARGUMENTS if "\0" in path else NO_NODE)


def test_the_empty_path_reads_the_root(client: Peer) -> None:
    reply = client.body(records.GetChildren("", False))
    assert reply == records.ChildrenReply(("zookeeper",))
    assert client.error(records.Exists("", False)) == OK


def test_a_null_path_is_unreadable(client: Peer) -> None:
    client.raw_request(4, b"\xff\xff\xff\xff\0")
    assert client.inbox[-1].error == MARSHALLING  # type: ignore[union-attr]  # it is an Answer


def test_sync_echoes_any_string(client: Peer) -> None:
    assert client.body(records.Sync("no path\0 at all")) == records.PathReply("no path\0 at all")


@pytest.mark.parametrize("flags", [-1, 7, 99])
def test_unknown_flags_come_before_everything(client: Peer, flags: int) -> None:
    assert client.error(create("nopath", flags)) == BAD_ARGUMENTS


def test_the_order_of_the_checks_of_create(client: Peer) -> None:
    client.create("/locked")
    client.create("/e", flags=1)
    client.body(records.SetAcl("/locked", READ_ONLY_ACL, -1))
    assert client.error(create("nopath", acl=())) == BAD_ARGUMENTS
    assert client.error(create("/none/x", acl=())) == INVALID_ACL
    assert client.error(create("/none/.")) == NO_NODE
    assert client.error(create("/locked/.")) == NO_AUTH
    assert client.error(create("/e/.")) == BAD_ARGUMENTS
    assert client.error(create("/e/x")) == NO_CHILDREN


def test_the_order_of_the_checks_of_delete(client: Peer) -> None:
    client.create("/locked")
    client.create("/locked/x")
    client.create("/p")
    client.create("/p/x")
    client.body(records.SetAcl("/locked", READ_ONLY_ACL, -1))
    assert client.error(records.Delete("/none/x", -1)) == NO_NODE
    assert client.error(records.Delete("/locked/none", 5)) == NO_AUTH
    assert client.error(records.Delete("/none", 5)) == NO_NODE
    assert client.error(records.Delete("/p", 5)) == BAD_VERSION
    assert client.error(records.Delete("/p", 0)) == NOT_EMPTY
    assert client.error(records.Delete("/p", -1)) == NOT_EMPTY


def test_the_order_of_the_checks_of_set_data_and_set_acl(client: Peer) -> None:
    client.create("/locked", acl=READ_ONLY_ACL)
    client.create("/p")
    assert client.error(records.SetData("/none", b"", 5)) == NO_NODE
    assert client.error(records.SetData("/locked", b"", 5)) == NO_AUTH
    assert client.error(records.SetData("/p", b"", 5)) == BAD_VERSION
    assert client.error(records.SetAcl("/none", (), 5)) == INVALID_ACL
    assert client.error(records.SetAcl("/none", OPEN_ACL, 5)) == NO_NODE
    assert client.error(records.SetAcl("/locked", OPEN_ACL, 5)) == NO_AUTH
    assert client.error(records.SetAcl("/p", OPEN_ACL, 5)) == BAD_VERSION


def test_only_minus_one_means_any_version(client: Peer) -> None:
    client.create("/p")
    assert client.error(records.SetData("/p", b"", -2)) == BAD_VERSION
    assert client.error(records.SetData("/p", b"", 0)) == OK
    assert client.error(records.SetData("/p", b"", 1)) == OK
    assert client.error(records.SetData("/p", b"", -1)) == OK
    assert client.error(records.Delete("/p", 3)) == OK


def test_set_acl_compares_the_aversion(client: Peer) -> None:
    client.create("/p")
    reply = client.body(records.SetAcl("/p", OPEN_ACL, 0))
    assert isinstance(reply, records.StatReply)
    assert reply.stat.aversion == 1
    assert client.error(records.SetAcl("/p", OPEN_ACL, 0)) == BAD_VERSION


def test_a_sequence_number_counts_creates_of_any_kind_and_not_deletes_or_failures(client: Peer) -> None:
    client.create("/p")
    client.create("/p/plain")
    assert client.create("/p/s-", flags=2) == "/p/s-0000000001"
    client.body(records.Delete("/p/plain", -1))
    assert client.error(create("/p/s-0000000001")) == NODE_EXISTS
    assert client.create("/p/e-", flags=3) == "/p/e-0000000002"
    reply = client.body(records.GetData("/p", False))
    assert isinstance(reply, records.DataReply)
    assert reply.stat.cversion == 4


def test_a_sequence_number_wraps_into_eleven_characters(rig: Rig, client: Peer) -> None:
    client.create("/p")
    parent = rig.state.tree.find("/p")
    assert parent is not None
    parent.created = 2147483647
    assert client.create("/p/s", flags=2) == "/p/s2147483647"
    assert client.create("/p/s", flags=2) == "/p/s-2147483648"


def test_create_answers_the_path_and_create2_the_stat_too(client: Peer) -> None:
    assert client.body(create("/a")) == records.PathReply("/a")
    reply = client.body(records.Create2("/b", b"xyz", OPEN_ACL, 1))
    assert isinstance(reply, records.PathStatReply)
    now = 1_700_000_000_000
    assert reply.stat == Stat(3, 3, now, now, 0, 0, 0, client.session_id, 3, 0, 3)


def test_any_session_may_change_and_delete_an_ephemeral(rig: Rig, client: Peer) -> None:
    client.create("/e", flags=1)
    other = rig.client()
    assert other.error(records.SetData("/e", b"", -1)) == OK
    assert other.error(records.Delete("/e", -1)) == OK


def test_get_ephemerals_lists_those_of_the_own_session_by_a_plain_prefix(rig: Rig, client: Peer) -> None:
    client.create("/ab", flags=1)
    client.create("/abc", flags=1)
    client.create("/x", flags=1)
    rig.client().create("/other", flags=1)
    everything = records.ChildrenReply(("/ab", "/abc", "/x"))
    for prefix in (None, "", "/", "  "):
        assert client.body(records.GetEphemerals(prefix)) == everything
    assert client.body(records.GetEphemerals("/ab")) == records.ChildrenReply(("/ab", "/abc"))


def test_all_descendants_are_counted(client: Peer) -> None:
    for path in ("/a", "/a/b", "/a/b/c", "/aa"):
        client.create(path)
    assert client.body(records.GetAllChildrenNumber("/a")) == records.NumberReply(2)
    assert client.body(records.GetAllChildrenNumber("/")) == records.NumberReply(7)


def test_container_and_ttl_nodes(rig: Rig, client: Peer) -> None:
    assert client.error(records.CreateContainer("/c", b"", OPEN_ACL, 4)) == OK
    assert client.error(records.CreateContainer("/c0", b"", OPEN_ACL, 0)) == OK
    assert client.error(create("/plain", 4)) == OK
    containers = [path for path, node in rig.state.tree.items() if node.container]
    assert containers == ["/c", "/c0"]
    assert client.create("/c/e", flags=1) == "/c/e"
    for ttl in (0, -1, 0xFFFFFFFFFF + 1):
        assert client.error(records.CreateTtl("/t", b"", OPEN_ACL, 5, ttl)) == BAD_ARGUMENTS
    assert client.error(records.CreateTtl("/t", b"", OPEN_ACL, 0, 5)) == BAD_ARGUMENTS
    assert client.error(records.CreateTtl("/t", b"", OPEN_ACL, 5, 0xFFFFFFFFFF)) == OK
    assert client.error(records.CreateTtl("/t", b"", OPEN_ACL, 6, 1)) == OK
    assert client.error(create("/t2", 5)) == BAD_ARGUMENTS


def test_without_extended_types_a_time_to_live_is_not_implemented() -> None:
    client = Rig(Settings(ttl_allowed=False)).client()
    assert client.error(records.CreateTtl("nopath", b"", OPEN_ACL, 5, 0)) == UNIMPLEMENTED
    assert client.error(create("nopath", 6)) == UNIMPLEMENTED


def test_reads_need_read_on_the_node_and_exists_too(rig: Rig, client: Peer) -> None:
    client.create("/p", acl=NOBODY)
    for request in (
        records.GetData("/p", True),
        records.GetChildren("/p", True),
        records.GetChildren2("/p", True),
        records.GetAllChildrenNumber("/p"),
        records.GetAcl("/p"),
        records.Exists("/p", True),
    ):
        assert client.error(request) == NO_AUTH
    assert len(rig.machine.watches) == 0


def test_get_acl_needs_read_or_admin_and_hides_digests_without_admin(rig: Rig, client: Peer) -> None:
    client.body(records.Auth(0, "digest", b"al:pw"))
    client.create("/p", acl=CREATOR_ALL_ACL)
    client.create("/q", acl=(*CREATOR_ALL_ACL, *READ_ONLY_ACL))
    reply = client.body(records.GetAcl("/p"))
    assert isinstance(reply, records.AclReply)
    assert reply.acl == (Acl(31, Id("digest", "al:E2WgW72KiEUG4R7vIVBkt6SPXyA=")),)
    other = rig.client()
    assert other.error(records.GetAcl("/p")) == NO_AUTH
    masked = other.body(records.GetAcl("/q"))
    assert isinstance(masked, records.AclReply)
    assert masked.acl[0] == Acl(31, Id("digest", "al:x"))


def test_several_credentials_accumulate(rig: Rig, client: Peer) -> None:
    client.body(records.Auth(0, "digest", b"al:pw"))
    client.create("/al", acl=CREATOR_ALL_ACL)
    other = rig.client()
    other.body(records.Auth(0, "digest", b"bo:pw"))
    assert other.error(records.GetData("/al", False)) == NO_AUTH
    other.body(records.Auth(0, "digest", b"al:pw"))
    assert other.error(records.GetData("/al", False)) == OK


def test_an_ip_is_enforced(rig: Rig) -> None:
    owner = rig.client(host="10.0.0.1")
    owner.create("/p", acl=(Acl(31, Id("ip", "10.0.0.0/24")),))
    assert owner.error(records.GetData("/p", False)) == OK
    assert rig.client(host="10.0.1.1").error(records.GetData("/p", False)) == NO_AUTH


def test_the_super_user_passes_every_list() -> None:
    rig = Rig(Settings(super_digest="al:E2WgW72KiEUG4R7vIVBkt6SPXyA="))
    client = rig.client()
    client.create("/p", acl=NOBODY)
    assert client.error(records.GetData("/p", False)) == NO_AUTH
    client.body(records.Auth(0, "digest", b"al:pw"))
    assert client.error(records.GetData("/p", False)) == OK


def test_the_config_node_is_read_only(client: Peer) -> None:
    assert client.error(records.SetData("/zookeeper/config", b"", -1)) == NO_AUTH


def test_null_data_comes_back_as_null(client: Peer) -> None:
    client.create("/null", None)
    client.create("/empty", b"")
    null, empty = client.body(records.GetData("/null", False)), client.body(records.GetData("/empty", False))
    assert isinstance(null, records.DataReply)
    assert isinstance(empty, records.DataReply)
    assert null.data is None
    assert empty.data == b""
