"""Checks, sequence numbers and ACLs where only the machine can be asked: settings, addresses, inner state, 3.9's rules.

What holds for Apache's server too is in tests/conformance.
"""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import OPEN_ACL, Acl, Id
from herdmaster.zookeeper.server import EmbeddedServer
from herdmaster.zookeeper.server.settings import Settings
from herdmaster.zookeeper.wire import records
from tests.zookeeper.server.rig import Peer, Rig
from tests.zookeeper.server.threaded import ServerThread

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
UNKNOWN = (Acl(31, Id("digest", "unknown:x")),)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def client(rig: Rig) -> Peer:
    return rig.client()


def create(path: str, flags: int = 0, acl: tuple[Acl, ...] = OPEN_ACL) -> records.Create:
    return records.Create(path, b"", acl, flags)


def test_a_sequence_number_wraps_into_eleven_characters(rig: Rig, client: Peer) -> None:
    client.create("/p")
    parent = rig.state.tree.find("/p")
    assert parent is not None
    parent.created = 2147483647
    assert client.create("/p/s", flags=2) == "/p/s2147483647"
    assert client.create("/p/s", flags=2) == "/p/s-2147483648"


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
    client.create("/p", acl=UNKNOWN)
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


def test_an_ip_is_enforced(rig: Rig) -> None:
    owner = rig.client(host="10.0.0.1")
    owner.create("/p", acl=(Acl(31, Id("ip", "10.0.0.0/24")),))
    assert owner.error(records.GetData("/p", False)) == OK
    assert rig.client(host="10.0.1.1").error(records.GetData("/p", False)) == NO_AUTH


def test_the_super_user_passes_every_list() -> None:
    rig = Rig(Settings(super_digest="al:E2WgW72KiEUG4R7vIVBkt6SPXyA="))
    client = rig.client()
    client.create("/p", acl=UNKNOWN)
    assert client.error(records.GetData("/p", False)) == NO_AUTH
    client.body(records.Auth(0, "digest", b"al:pw"))
    assert client.error(records.GetData("/p", False)) == OK


def test_a_server_on_tcp_has_a_super_user_where_it_is_given_one() -> None:
    for digest, error in (("", NO_AUTH), ("al:E2WgW72KiEUG4R7vIVBkt6SPXyA=", OK)):
        with ServerThread(EmbeddedServer(super_digest=digest)) as server:
            client = server.attach()
            assert client.ask(records.Create("/p", b"", UNKNOWN, 0)).error == OK
            assert client.ask(records.GetData("/p", False)).error == NO_AUTH
            assert client.ask(records.Auth(0, "digest", b"al:pw")).error == OK
            assert client.ask(records.GetData("/p", False)).error == error


@pytest.mark.parametrize("text", ["al", "al:", ":hash"])
def test_a_super_user_that_is_no_digest_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="super_digest must be user:hash"):
        EmbeddedServer(super_digest=text)
