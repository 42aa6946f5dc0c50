"""What takes a server with other settings: the tree of a fresh one (3.2), times to live that are off (3.5), the super
user (3.10), limits on connections (3.11) and the default list of four-letter words (3.12).

Left out: the embedded server answers every word that it knows, so the list is Apache's alone.
"""

from __future__ import annotations

import time

import pytest

from herdmaster.zookeeper.model import CREATOR_ALL_ACL, OPEN_ACL, Stat
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import ConnectRequest
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiReply
from tests.conformance.rig import CONNECTIONS, HANDSHAKE, SUPER_USER, Peer, Rig

UNIMPLEMENTED, NO_AUTH = -6, -102
TTL, SEQUENTIAL_TTL = 5, 6
WORDS = ("conf", "cons", "dump", "envi", "isro", "mntr", "ruok", "stat", "wchc", "wchp", "wchs")


def wait_without_connections(rig: Rig) -> None:
    """Until the server has noticed that those of other tests are gone, and counts none but the one that asks."""
    deadline = time.monotonic() + 20
    while "\nConnections: 1\n" not in rig.four_letter_word(b"srvr"):
        assert time.monotonic() < deadline


def is_refused_without_a_word(rig: Rig) -> bool:
    try:
        peer = rig.peer()
    except ConnectionError:
        return True  # closed before the client's side knew that it was connected
    peer.wait_closed()
    return not peer.raw


def leave(peer: Peer) -> None:
    peer.request(records.CloseSession())
    peer.wait_closed()
    peer.session_id = 0


def test_the_root_of_a_fresh_server_is_all_zeros_but_for_the_cversion_that_starts_at_minus_1(strict_rig: Rig) -> None:
    fresh = Stat(0, 0, 0, 0, 0, -1, 0, 0, 0, 1, 0)
    assert strict_rig.client().body(records.Exists("/", False)) == records.StatReply(fresh)


@pytest.mark.parametrize("flags", [TTL, SEQUENTIAL_TTL])
def test_times_to_live_that_are_off_are_unimplemented_and_cost_nothing_else(strict_rig: Rig, flags: int) -> None:
    client = strict_rig.client()
    creation = records.CreateTtl("/t", b"", OPEN_ACL, flags, 1000)
    answer = client.ask(creation)
    assert (answer.error, answer.body) == (UNIMPLEMENTED, b"")
    assert client.error(records.Create("/t", b"", OPEN_ACL, flags)) == UNIMPLEMENTED
    reply = client.body(Multi((records.Check("/", -1), creation)))
    assert isinstance(reply, MultiReply)
    assert reply.results == (ErrorResult(0), ErrorResult(UNIMPLEMENTED))
    assert client.is_open()


def test_the_super_user_is_stopped_by_no_acl(client: Peer, other: Peer) -> None:
    client.authenticate(b"al:pw")
    client.create("/locked", b"mine", acl=CREATOR_ALL_ACL)
    refused = (
        records.GetData("/locked", False),
        records.GetAcl("/locked"),
        records.SetData("/locked", b"", -1),
        records.Create("/locked/x", b"", OPEN_ACL, 0),
        records.SetAcl("/locked", OPEN_ACL, 0),
    )
    other.authenticate(b"super:of other tests")
    assert [other.error(request) for request in refused] == [NO_AUTH] * 5
    other.authenticate(SUPER_USER)
    assert [other.error(request) for request in refused] == [0] * 5
    identities = other.body(records.WhoAmI())
    assert isinstance(identities, records.WhoAmIReply)
    assert ("super", "") in [(info.scheme, info.user) for info in identities.infos]


@pytest.mark.long
@pytest.mark.parametrize(
    "start",
    [b"", b"ru", ConnectRequest(0, 10_000, 0, b"\0" * 16).encode()[:20]],
    ids=["nothing", "half a word", "half a handshake"],
)
def test_a_connection_without_a_whole_handshake_is_cut_without_a_word(strict_rig: Rig, start: bytes) -> None:
    wait_without_connections(strict_rig)
    since = time.monotonic()
    peer = strict_rig.peer()
    peer.send(start)
    peer.wait_closed()
    assert peer.raw == b""
    assert HANDSHAKE / 1000 - 0.05 < time.monotonic() - since < 9


@pytest.mark.slow
def test_by_default_a_handshake_has_10_to_20_seconds(rig: Rig) -> None:
    since = time.monotonic()
    rig.peer().wait_closed()
    assert 9.9 < time.monotonic() - since < 22


def test_an_address_has_so_many_connections_and_the_next_is_closed_at_once(strict_rig: Rig) -> None:
    wait_without_connections(strict_rig)
    clients = [strict_rig.client() for _ in range(CONNECTIONS)]
    assert is_refused_without_a_word(strict_rig)
    assert all(client.is_open() for client in clients)
    leave(clients.pop())
    clients.append(strict_rig.client())
    for client in clients:
        leave(client)


@pytest.mark.apache
@pytest.mark.parametrize("word", WORDS)
def test_by_default_apaches_server_answers_srvr_alone_and_names_the_list(strict_apache_rig: Rig, word: str) -> None:
    assert "\nMode: standalone\n" in strict_apache_rig.four_letter_word(b"srvr")
    told = strict_apache_rig.four_letter_word(word.encode())
    assert told == f"{word} is not executed because it is not in the whitelist.\n"
