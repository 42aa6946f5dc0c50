"""The two servers that may be fuzzed, and what a test says to its runner."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import msgspec
import pytest

from herdmaster.testing.apache import QUICK_START, ApacheZooKeeper, ZooKeeperNotInstalled
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.server import EmbeddedServer, Limits
from herdmaster.zookeeper.server.settings import Access
from tests.conformance.rig import SASL_PROVIDER, X509_PROVIDER, jaas_of
from tests.zookeeper.server.threaded import ServerThread

USERS = {"al": "pw", "bo": "another", "super": "of these tests"}

NEVER = 10**9
"""Milliseconds between two sweeps of containers: the two servers would do it at different moments."""


@pytest.fixture
def tell(capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line past pytest. With xdist too: a worker's stdout goes nowhere, and of a terminal summary pytest asks
    the controller's conftests, of which it has only those next to `testpaths`; but the two share stderr."""

    def print_past_pytest(line: str) -> None:
        with capfd.disabled():
            print(f"\n{line}", file=sys.stderr, flush=True)  # noqa: T201 - that is its task

    return print_past_pytest


@pytest.fixture(scope="module")
def fuzzed_embedded() -> Iterator[ServerThread]:
    limits = Limits(container_sweep=NEVER)
    access = Access({user: Secret(password.encode()) for user, password in USERS.items()})
    server = EmbeddedServer(tick_time=200, min_session_timeout=400, limits=limits, access=access)
    server._settings = msgspec.structs.replace(server._settings, x509=True)  # as with TLS and client certificates
    with ServerThread(server) as thread:
        yield thread


@pytest.fixture(scope="module")
def private_apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheZooKeeper]:
    """A server that may be fuzzed: no other test uses it."""
    jaas = tmp_path_factory.mktemp("jaas") / "jaas.conf"
    jaas.write_text(jaas_of(USERS))
    login = f"-Djava.security.auth.login.config={jaas}"
    options = ("-Dzookeeper.forceSync=no", "-Dzookeeper.extendedTypesEnabled=true", login)
    sweep = f"-Dznode.container.checkIntervalMs={NEVER}"
    settings = {"minSessionTimeout": "400", "maxSessionTimeout": "40000", **SASL_PROVIDER, **X509_PROVIDER}
    try:
        server = ApacheZooKeeper(tick_time=200, settings=settings, java_options=(*QUICK_START, *options, sweep))
    except ZooKeeperNotInstalled as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))
    with server:
        yield server
