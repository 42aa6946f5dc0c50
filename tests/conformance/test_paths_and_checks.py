"""Fact sheet 3.3 (paths), 3.4 (the order of checks) and the errors of 2.3 that no order needs.

Left out: quotas (-125), which need a setting of Apache's; a `check` outside a multi and a time to live with flags that
have none, which 3.8.0 does not refuse as the newer ones do.
"""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import OPEN_ACL, READ_ONLY_ACL, Acl
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiReply
from herdmaster.zookeeper.wire.opcodes import OpCode
from herdmaster.zookeeper.wire.records import Record, Request
from tests.conformance.rig import Peer

OK, MARSHALLING, BAD_ARGUMENTS, NO_NODE, NO_AUTH, BAD_VERSION = 0, -5, -8, -101, -102, -103
NO_CHILDREN, NODE_EXISTS, NOT_EMPTY, INVALID_ACL, RECONFIG_DISABLED = -108, -110, -111, -114, -123


def create(path: str, flags: int = 0, acl: tuple[Acl, ...] = OPEN_ACL) -> records.Create:
    return records.Create(path, b"", acl, flags)


def check(peer: Peer, path: str, version: int) -> int:
    """The error of a check, which only a multi may hold."""
    reply = peer.body(Multi((records.Check(path, version),)))
    assert isinstance(reply, MultiReply)
    (result,) = reply.results
    return result.code if isinstance(result, ErrorResult) else OK


BAD_PATHS = [
    "a",
    "/a/",
    "//",
    "/a//b",
    "/.",
    "/..",
    "/a/./b",
    "/a/../b",
    "/a\0b",
    "/\x01",
    "/\x1f",
    "/\x7f",
    "/\x9f",
    "/\ud800",
    "/\ue000",
    "/\uf8ff",
    "/\ufff0",
    "/\uffff",
    "/\U0001f411",
    "",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_set_data_set_acl_and_check_validate_the_path_first(client: Peer, path: str) -> None:
    assert client.error(records.SetData(path, b"", -1)) == BAD_ARGUMENTS
    assert client.error(records.SetAcl(path, (), -1)) == BAD_ARGUMENTS
    assert check(client, path, 5) == BAD_ARGUMENTS


@pytest.mark.parametrize(
    "path", ["/...", "/a.b", "/ ", "/é", "/" + "x" * 4000, "/日本", "/\ud7ff", "/\uf900", "/\uffef"]
)
def test_unusual_names_are_fine(client: Peer, path: str) -> None:
    assert client.create(path) == path
    assert client.children("/") == sorted([path[1:], "zookeeper"])


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


@pytest.mark.parametrize("path", ["/a/", "/a//b", "/.", "//a"])
def test_delete_takes_malformed_paths_for_absent_nodes(client: Peer, path: str) -> None:
    client.create("/a")
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
    assert client.children("") == ["zookeeper"]
    for request in (records.Exists("", False), records.GetData("", False), records.GetAcl("")):
        assert client.ask(request)[2:] == client.ask(type(request)("/", *([False] * (len(request.layout) - 1))))[2:]


def test_an_error_is_a_header_without_a_body(client: Peer) -> None:
    client.create("/a")
    requests: list[tuple[Request[Record], int]] = [
        (records.Exists("/none", False), NO_NODE),
        (records.GetData("/none", True), NO_NODE),
        (records.GetChildren2("/none", False), NO_NODE),
        (records.Delete("/none", -1), NO_NODE),
        (records.SetData("/a", b"", 7), BAD_VERSION),
        (create("/a"), NODE_EXISTS),
        (records.Create2("/a", b"", OPEN_ACL, 0), NODE_EXISTS),
        (create("/b", acl=()), INVALID_ACL),
    ]
    for request, error in requests:
        client.request(request)
        answer = client.answers.pop()
        assert (answer.error, answer.body) == (error, b""), request


@pytest.mark.parametrize("opcode", [OpCode.GET_DATA, OpCode.EXISTS, OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2])
def test_a_null_path_is_unreadable(client: Peer, opcode: int) -> None:
    assert client.raw_request(opcode, b"\xff\xff\xff\xff\0").error == MARSHALLING


@pytest.mark.parametrize("flags", [-1, 7, 99])
def test_unknown_flags_come_before_everything(client: Peer, flags: int) -> None:
    assert client.error(create("nopath", flags, ())) == BAD_ARGUMENTS


@pytest.mark.parametrize("flags", [5, 6])
@pytest.mark.parametrize("request_type", [records.Create, records.Create2])
def test_flags_of_a_time_to_live_need_the_request_that_has_one(
    client: Peer, flags: int, request_type: type[records.Create | records.Create2]
) -> None:
    assert client.error(request_type("/t", b"", OPEN_ACL, flags)) == BAD_ARGUMENTS
    assert client.error(records.Exists("/t", False)) == NO_NODE


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
    for path in ("/locked", "/locked/x", "/p", "/p/x"):
        client.create(path)
    client.body(records.SetAcl("/locked", READ_ONLY_ACL, -1))
    assert client.error(records.Delete("/none/x", -1)) == NO_NODE
    assert client.error(records.Delete("/locked/none", 5)) == NO_AUTH
    assert client.error(records.Delete("/none", 5)) == NO_NODE
    assert client.error(records.Delete("/p", 5)) == BAD_VERSION
    assert client.error(records.Delete("/p", 0)) == NOT_EMPTY
    assert client.error(records.Delete("/p", -1)) == NOT_EMPTY


def test_the_order_of_the_checks_of_set_data_set_acl_and_check(client: Peer) -> None:
    client.authenticate(b"al:pw")
    client.create("/locked", acl=READ_ONLY_ACL)
    client.create("/p")
    assert client.error(records.SetData("/none", b"", 5)) == NO_NODE
    assert client.error(records.SetData("/locked", b"", 5)) == NO_AUTH
    assert client.error(records.SetData("/p", b"", 5)) == BAD_VERSION
    assert client.error(records.SetAcl("/none", (), 5)) == INVALID_ACL
    assert client.error(records.SetAcl("/none", OPEN_ACL, 5)) == NO_NODE
    assert client.error(records.SetAcl("/locked", OPEN_ACL, 5)) == NO_AUTH
    assert client.error(records.SetAcl("/p", OPEN_ACL, 5)) == BAD_VERSION
    client.create("/unreadable", acl=(Acl(30, OPEN_ACL[0].id),))
    assert check(client, "/none", 5) == NO_NODE
    assert check(client, "/unreadable", 5) == NO_AUTH
    assert check(client, "/p", 5) == BAD_VERSION
    assert check(client, "/p", 0) == check(client, "/p", -1) == OK


def test_only_minus_one_means_any_version(client: Peer) -> None:
    client.create("/p")
    assert client.error(records.SetData("/p", b"", -2)) == BAD_VERSION
    assert client.error(records.SetData("/p", b"", 0)) == OK
    assert client.error(records.SetData("/p", b"", 1)) == OK
    assert client.error(records.SetData("/p", b"", -1)) == OK
    assert client.error(records.Delete("/p", -2)) == BAD_VERSION
    assert client.error(records.Delete("/p", 3)) == OK


def test_set_acl_compares_the_aversion(client: Peer) -> None:
    client.create("/p")
    reply = client.body(records.SetAcl("/p", OPEN_ACL, 0))
    assert isinstance(reply, records.StatReply)
    assert reply.stat.aversion == 1
    assert client.error(records.SetAcl("/p", OPEN_ACL, 0)) == BAD_VERSION


def test_the_config_node_is_read_only(client: Peer) -> None:
    assert client.error(records.SetData("/zookeeper/config", b"", -1)) == NO_AUTH


@pytest.mark.parametrize(
    ("opcode", "body", "error"),
    [
        (20, b"\0\0\0\x02/a", BAD_ARGUMENTS),
        (OpCode.RECONFIG, b"\xff" * 12 + b"\0" * 8, RECONFIG_DISABLED),
    ],
)
def test_requests_that_are_not_for_clients_get_an_error_and_a_zxid(
    client: Peer, opcode: int, body: bytes, error: int
) -> None:
    client.create("/a")
    zxid = client.stat("/a").stat.czxid
    answer = client.raw_request(opcode, body)
    assert (answer.zxid, answer.error) == (zxid + 1, error)
    assert client.is_open()
    assert client.error(records.Exists("/a", False)) == OK
