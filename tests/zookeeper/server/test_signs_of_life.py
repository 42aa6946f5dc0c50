"""What keeps a session alive: requests that are handled, and pings. The server is the one that `--server` chooses."""

from __future__ import annotations

import time
from types import ModuleType, SimpleNamespace

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import AuthFailedError
from kazoo.protocol import connection as kazoo_connection

from herdmaster.zookeeper.client import parse_connect_string
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_request
from herdmaster.zookeeper.wire.records import Record, Request
from tests.zookeeper.server.rig import Peer, Rig
from tests.zookeeper.server.wire import ConnectionEnded, Wire

TIMEOUT_MS = 4000


@pytest.fixture
def rig() -> Rig:
    return Rig()


def outlives(rig: Rig, client: Peer, say: bytes) -> bool:
    """Whether the session is still there after two timeouts in which this is said again and again."""
    for _ in range(20):
        rig.advance(TIMEOUT_MS // 10)
        if client.is_closed:
            return False
        client.send(say)
    return True


@pytest.mark.parametrize(
    ("request_", "keeps"),
    [
        (records.Ping(), True),
        (records.Exists("/absent", False), True),
        (records.Sync("/"), True),
        (records.Auth(0, "digest", b"a:b"), False),
        (records.Sasl(b"token"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Record) else None,
)
def test_requests_keep_a_session_but_not_those_of_an_authentication(
    rig: Rig, request_: Request[Record], keeps: bool
) -> None:
    assert outlives(rig, rig.client(TIMEOUT_MS), encode_request(1, request_)) is keeps


def test_a_request_that_does_not_end_keeps_no_session(rig: Rig) -> None:
    client = rig.client(TIMEOUT_MS)
    client.send((1000).to_bytes(4))
    assert not outlives(rig, client, b"x" * 5)


def test_what_waits_in_a_round_counts_when_it_is_handled(rig: Rig) -> None:
    client = rig.client(TIMEOUT_MS)
    rig.advance(TIMEOUT_MS - 100)
    client.send(encode_request(1, records.Auth(0, "digest", b"a:b")) + encode_request(2, records.Ping()))
    rig.advance(TIMEOUT_MS - 100)
    assert not client.is_closed


# --- both servers alike ---------------------------------------------------------------------------------


@pytest.fixture
def wire(namespace: str) -> Wire:
    return Wire(parse_connect_string(namespace).addresses[0].port)


@pytest.mark.long
@pytest.mark.parametrize(
    "say",
    [encode_request(1, records.Sasl(b"")), encode_request(-4, records.Auth(0, "digest", b"a:b"))],
    ids=["sasl", "auth"],
)
def test_an_authentication_that_goes_on_and_on_ends_with_the_session(wire: Wire, say: bytes) -> None:
    with wire:
        began = time.monotonic()
        granted = wire.handshake(400).timeout / 1000
        with pytest.raises((ConnectionEnded, ConnectionError)):
            _repeat(wire, say, pause=granted / 10, seconds=10 * granted)
        assert time.monotonic() - began >= granted


def _repeat(wire: Wire, say: bytes, pause: float, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        wire.socket.sendall(say)
        assert wire.receive().error == 0
        time.sleep(pause)


def test_a_sasl_request_without_a_token_ends_the_connection(wire: Wire) -> None:
    with wire:
        wire.handshake()
        assert wire.ask(records.Sasl(b"token")).body == b"\xff\xff\xff\xff"
        with pytest.raises(ConnectionEnded):
            wire.ask(records.Sasl(None))


class _NotRaised(Exception):
    pass


class _Mechanism:
    """Of DIGEST-MD5 what a client does whose server never challenges it: it begins again and again."""

    complete = False

    def __init__(self, host: str, **_options: str) -> None:
        assert host == "zk-sasl-md5"

    def process(self, challenge: bytes | None = None) -> bytes | None:
        assert challenge is None
        time.sleep(0.01)
        return None


@pytest.mark.long
def test_kazoo_with_sasl_is_refused_in_the_end(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("puresasl")
    vars(library).update(
        client=SimpleNamespace(SASLClient=_Mechanism), SASLError=_NotRaised, SASLProtocolException=_NotRaised
    )
    monkeypatch.setattr(kazoo_connection, "puresasl", library, raising=False)
    monkeypatch.setattr(kazoo_connection, "PURESASL_AVAILABLE", True)
    options = {"mechanism": "DIGEST-MD5", "username": "super", "password": "secret"}
    client = KazooClient(namespace.partition("/")[0], timeout=0.4, sasl_options=options)
    try:
        client.start(10)
        with pytest.raises(AuthFailedError):
            client.get("/")
    finally:
        client.stop()
        client.close()
