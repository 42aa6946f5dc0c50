"""Every test that asks for `rig` runs on the embedded server and on Apache's, and cannot tell which one it has.

The embedded server is a new one per test, Apache's is one per process, in which every test leaves an empty tree.
Both grant the same session timeouts, sweep containers at the same pace, know times to live and the same super user.

`strict_rig` is the same with small limits and without times to live, on a server to which nothing was ever written.
Some modules run over TLS as well, as `pytest_generate_tests`
says.
Where the two differ knowingly, a test asks for `embedded_rig` or `apache_rig`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import msgspec
import pytest

from herdmaster.testing.apache import QUICK_START, ApacheZooKeeper, ZooKeeperNotInstalled
from herdmaster.testing.child_server import POLL
from herdmaster.testing.ports import free_ports
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.server import EmbeddedServer, Limits, acls
from herdmaster.zookeeper.server.settings import Access
from herdmaster.zookeeper.tls import TLS
from tests.authority import Authority
from tests.conformance.rig import (
    CONNECTIONS,
    HANDSHAKE,
    MAX_TIMEOUT,
    MIN_TIMEOUT,
    SASL_PROVIDER,
    SASL_USERS,
    SUPER_USER,
    SWEEP,
    TICK,
    X509_PROVIDER,
    Peer,
    Rig,
    clean,
    jaas_of,
)
from tests.zookeeper.server.threaded import ServerThread

_SERVERS = ["embedded", pytest.param("apache", marks=pytest.mark.apache)]
_OVER_TLS = [
    pytest.param("embedded_tls", marks=pytest.mark.long),
    pytest.param("apache_tls", marks=[pytest.mark.long, pytest.mark.apache]),
]
_TLS_MODULES = ("test_sessions", "test_watches")
"""The modules whose tests of `rig` run over TLS as well, without client certificates: what they test depends on the
connection. The handshake is not among them: Netty takes a frame of no bytes."""

_BOUNDS = {"minSessionTimeout": str(MIN_TIMEOUT), "maxSessionTimeout": str(MAX_TIMEOUT)}
SASL_SECRETS = {user: Secret(password.encode()) for user, password in SASL_USERS.items()}
_START_TIMEOUT = 60.0  # seconds
_SWEPT = (
    "-Dzookeeper.extendedTypesEnabled=true",
    f"-Dznode.container.checkIntervalMs={SWEEP}",
    f"-Dzookeeper.DigestAuthenticationProvider.superDigest={acls.digest_id(SUPER_USER).id}",
)


def _new_apache(
    settings: dict[str, str | None], *java_options: str, port: int | None = None, tls: TLS | None = None
) -> ApacheZooKeeper:
    try:
        return ApacheZooKeeper(
            tick_time=TICK,
            port=port,
            tls=tls,
            settings={**_BOUNDS, **settings},
            java_options=(*QUICK_START, *java_options),
        )
    except ZooKeeperNotInstalled as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))


def _new_embedded(limits: Limits, *, ttl_allowed: bool = True, tls: TLS | None = None) -> EmbeddedServer:
    server = EmbeddedServer(
        tls=tls,
        tick_time=TICK,
        min_session_timeout=MIN_TIMEOUT,
        max_session_timeout=MAX_TIMEOUT,
        limits=limits,
        super_digest=acls.digest_id(SUPER_USER).id,
    )
    # The machine knows this, but a developer who works against the server has no use for it.
    server._settings = msgspec.structs.replace(server._settings, ttl_allowed=ttl_allowed)
    return server


@pytest.fixture(scope="session")
def swept_apache() -> Iterator[ApacheZooKeeper]:
    """Its super user alone can clean up behind a test that locks its znodes."""
    with _new_apache({}, *_SWEPT) as server:
        yield server


@pytest.fixture(scope="session")
def strict_apache() -> Iterator[ApacheZooKeeper]:
    """Answers the words that Apache's answers by default. No test may write to it, nor end its sessions by expiry."""
    (port,) = free_ports(1)
    settings = {"4lw.commands.whitelist": None, "maxClientCnxns": str(CONNECTIONS)}
    # A session begins with a write: waiting for a busy disk would count as waiting for the handshake.
    options = (f"-Dzookeeper.nio.sessionlessCnxnTimeout={HANDSHAKE}", "-Dzookeeper.forceSync=no")
    server = _new_apache(settings, *options, port=port)
    try:
        server.launch()
        # `start` would wait for the answer to a word that is not among those.
        deadline = time.monotonic() + _START_TIMEOUT
        while server.mode() is None:
            assert server.is_running, server.log.read_text()
            assert time.monotonic() < deadline, "no service"
            time.sleep(POLL)
        yield server
    finally:
        server.close()


@pytest.fixture
def embedded_rig() -> Iterator[Rig]:
    with ServerThread(_new_embedded(Limits(container_sweep=SWEEP))) as server:
        rig = Rig(server.port)
        yield rig
        rig.close()


@pytest.fixture
def apache_rig(swept_apache: ApacheZooKeeper) -> Iterator[Rig]:
    rig = Rig(swept_apache.port)
    yield rig
    try:
        rig.close()
    finally:
        clean(swept_apache.port)


@pytest.fixture
def embedded_tls_rig(authority: Authority) -> Iterator[Rig]:
    yield from _embedded_tls_rig(authority.server.tls(ca=None), TLS(ca=authority.ca))


@pytest.fixture
def embedded_x509_rig(authority: Authority) -> Iterator[Rig]:
    yield from _embedded_tls_rig(authority.server.tls(), authority.client.tls())


def _embedded_tls_rig(server: TLS, client: TLS) -> Iterator[Rig]:
    with ServerThread(_new_embedded(Limits(container_sweep=SWEEP), tls=server)) as thread:
        rig = Rig(thread.port, client)
        yield rig
        rig.close()


@pytest.fixture(scope="session")
def secure_apache(authority: Authority) -> Iterator[ApacheZooKeeper]:
    """Takes clients with and without certificates."""
    with _new_apache({"ssl.clientAuth": "want"}, *_SWEPT, tls=authority.server.tls()) as server:
        yield server


@pytest.fixture
def apache_tls_rig(secure_apache: ApacheZooKeeper, authority: Authority) -> Iterator[Rig]:
    yield from _apache_tls_rig(secure_apache, TLS(ca=authority.ca))


@pytest.fixture
def apache_x509_rig(secure_apache: ApacheZooKeeper, authority: Authority) -> Iterator[Rig]:
    yield from _apache_tls_rig(secure_apache, authority.client.tls())


def _apache_tls_rig(secure_apache: ApacheZooKeeper, client: TLS) -> Iterator[Rig]:
    rig = Rig(int(secure_apache.secure_hosts.rpartition(":")[2]), client)
    yield rig
    try:
        rig.close()
    finally:
        clean(secure_apache.port)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rig" in metafunc.fixturenames:
        is_secure = metafunc.module.__name__.rpartition(".")[2] in _TLS_MODULES
        metafunc.parametrize("rig", [*_SERVERS, *_OVER_TLS] if is_secure else _SERVERS, indirect=True)


@pytest.fixture(params=_OVER_TLS)
def secure_rig(request: pytest.FixtureRequest) -> Rig:
    """A server with clients that have certificates."""
    found: Rig = request.getfixturevalue(f"{request.param.replace('tls', 'x509')}_rig")
    return found


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Rig:
    found: Rig = request.getfixturevalue(f"{request.param}_rig")
    return found


@pytest.fixture
def strict_embedded_rig() -> Iterator[Rig]:
    limits = Limits(handshake=HANDSHAKE / 1000, connections_per_host=CONNECTIONS)
    with ServerThread(_new_embedded(limits, ttl_allowed=False)) as server:
        rig = Rig(server.port)
        yield rig
        rig.close()


@pytest.fixture
def strict_apache_rig(strict_apache: ApacheZooKeeper) -> Iterator[Rig]:
    rig = Rig(strict_apache.port)
    yield rig
    rig.close()


@pytest.fixture(params=_SERVERS)
def strict_rig(request: pytest.FixtureRequest) -> Rig:
    found: Rig = request.getfixturevalue(f"strict_{request.param}_rig")
    return found


@pytest.fixture(scope="session")
def _jaas(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Java option for a server that knows SASL_USERS."""
    file = tmp_path_factory.mktemp("jaas") / "jaas.conf"
    file.write_text(jaas_of(SASL_USERS))
    return f"-Djava.security.auth.login.config={file}"


@pytest.fixture(scope="session")
def sasl_apache(_jaas: str) -> Iterator[ApacheZooKeeper]:
    super_digest = f"-Dzookeeper.DigestAuthenticationProvider.superDigest={acls.digest_id(SUPER_USER).id}"
    with _new_apache({**SASL_PROVIDER, **X509_PROVIDER}, _jaas, super_digest) as server:
        yield server


@pytest.fixture(scope="session")
def enforcing_apache(_jaas: str) -> Iterator[ApacheZooKeeper]:
    """No test may write to it: only a client that has authenticated could clean up."""
    with _new_apache({**SASL_PROVIDER, "sessionRequireClientSASLAuth": "true"}, _jaas) as server:
        yield server


@pytest.fixture(params=_SERVERS)
def sasl_rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A server that knows SASL_USERS, and takes subjects of certificates in ACLs."""
    if request.param == "apache":
        server: ApacheZooKeeper = request.getfixturevalue("sasl_apache")
        rig = Rig(server.port)
        yield rig
        try:
            rig.close()
        finally:
            clean(server.port)
        return
    embedded = EmbeddedServer(
        tick_time=TICK,
        min_session_timeout=MIN_TIMEOUT,
        max_session_timeout=MAX_TIMEOUT,
        super_digest=acls.digest_id(SUPER_USER).id,
        access=Access(SASL_SECRETS),
    )
    embedded._settings = msgspec.structs.replace(embedded._settings, x509=True)  # as with TLS and client certificates
    with ServerThread(embedded) as thread:
        rig = Rig(thread.port)
        yield rig
        rig.close()


@pytest.fixture(params=_SERVERS)
def enforcing_rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A server that takes only clients that have authenticated by SASL."""
    if request.param == "apache":
        rig = Rig(request.getfixturevalue("enforcing_apache").port)
        yield rig
        rig.close()
        return
    embedded = EmbeddedServer(
        tick_time=TICK,
        min_session_timeout=MIN_TIMEOUT,
        max_session_timeout=MAX_TIMEOUT,
        access=Access(SASL_SECRETS, ("sasl",)),
    )
    with ServerThread(embedded) as thread:
        rig = Rig(thread.port)
        yield rig
        rig.close()


@pytest.fixture
def client(rig: Rig) -> Peer:
    return rig.client()


@pytest.fixture
def other(rig: Rig) -> Peer:
    return rig.client()
