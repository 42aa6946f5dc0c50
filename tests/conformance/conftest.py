"""Every test that asks for `rig` runs on the embedded server and on Apache's, and cannot tell which one it has.

The embedded server is a new one per test, Apache's is one per process, in which every test leaves an empty tree.
Both grant the same session timeouts, sweep containers at the same pace and know times to live.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from herdmaster.testing.apache import QUICK_START, ApacheZooKeeper, ZooKeeperNotInstalled
from herdmaster.zookeeper.server import EmbeddedServer, Limits, acls
from tests.conformance.rig import MAX_TIMEOUT, MIN_TIMEOUT, SUPER_USER, SWEEP, TICK, Peer, Rig, clean
from tests.zookeeper.server.threaded import ServerThread


@pytest.fixture(scope="session")
def swept_apache() -> Iterator[ApacheZooKeeper]:
    """With a super user, who alone can clean up behind a test that locks its znodes."""
    options = (
        "-Dzookeeper.extendedTypesEnabled=true",
        f"-Dznode.container.checkIntervalMs={SWEEP}",
        f"-Dzookeeper.DigestAuthenticationProvider.superDigest={acls.digest_id(SUPER_USER).id}",
    )
    bounds = {"minSessionTimeout": str(MIN_TIMEOUT), "maxSessionTimeout": str(MAX_TIMEOUT)}
    try:
        server = ApacheZooKeeper(tick_time=TICK, settings=bounds, java_options=(*QUICK_START, *options))
    except ZooKeeperNotInstalled as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))
    with server:
        yield server


def _embedded() -> EmbeddedServer:
    return EmbeddedServer(
        tick_time=TICK,
        min_session_timeout=MIN_TIMEOUT,
        max_session_timeout=MAX_TIMEOUT,
        limits=Limits(container_sweep=SWEEP),
    )


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.apache)])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "embedded":
        with ServerThread(_embedded()) as server:
            rig = Rig(server.port)
            yield rig
            rig.close()
        return
    apache: ApacheZooKeeper = request.getfixturevalue("swept_apache")
    rig = Rig(apache.port)
    yield rig
    try:
        rig.close()
    finally:
        clean(apache.port)


@pytest.fixture
def client(rig: Rig) -> Peer:
    return rig.client()


@pytest.fixture
def other(rig: Rig) -> Peer:
    return rig.client()
