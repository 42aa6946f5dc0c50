"""Fixtures for all tests: a ZooKeeper, one server per process, and a fresh namespace per test.

`--server` chooses which: `apache` (the default) or `embedded`, our own in a process of its own. Both grant sessions of
0.4 to 4 s. What cannot be without Apache's, whatever was chosen, asks for `apache`, `own_apache` or `apache_ensemble`.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from typing import NoReturn

import kazoo.protocol.connection
import kazoo.retry
import pytest
from hypothesis import HealthCheck, settings
from kazoo.client import KazooClient
from kazoo.exceptions import NotEmptyError

from herdmaster.testing.apache import ApacheEnsemble, ApacheZooKeeper, ZooKeeperNotInstalled
from herdmaster.testing.child_server import ChildServer
from herdmaster.testing.embedded_process import EmbeddedProcess
from tests.authority import Authority
from tests.fallbacks import FOLDERS, Switch

# Hypothesis watches the global generator, and takes a draw from it by another thread for a fault of the test. kazoo's
# threads draw their jitter from it, so they get one of their own.
for module in (kazoo.protocol.connection, kazoo.retry):
    module.random = random.Random()

# A shell starts what runs in its background with Ctrl-C ignored, and all that is started from here would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_CI = os.environ.get("CI") == "true"
_APACHES = {"apache", "own_apache", "apache_ensemble"}
_switch = Switch()
_CHOSEN = {"new_zookeeper", "shared_zookeeper", "own_zookeeper", "namespace"}

# The machine is shared, so time says nothing about a pure function; in CI a run must be repeatable.
settings.register_profile("herdmaster", deadline=None, derandomize=_CI, suppress_health_check=(HealthCheck.too_slow,))
settings.load_profile("herdmaster")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", choices=("apache", "embedded"), default="apache", help="the ZooKeeper to test against")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    needing = _APACHES if config.getoption("--server") == "embedded" else _APACHES | _CHOSEN
    for item in items:
        if needing.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.apache)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from what stays: it would go through all tests again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    wanted = {name for marker in item.iter_markers("fallback") for name in marker.args}
    _switch.leave(wanted if item.nodeid.startswith(FOLDERS) else None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Keep the promise of `within`: a fallback that gives the same answer later is no proof of what the test says."""
    began = time.monotonic()
    result = yield
    limit = item.get_closest_marker("within")
    if limit is not None and (took := time.monotonic() - began) > limit.args[0]:
        pytest.fail(f"took {took:.1f} s, and must not need more than {limit.args[0]:g} s", pytrace=False)
    return result


def _without_zookeeper(reason: ZooKeeperNotInstalled) -> NoReturn:
    if _CI:
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))


@pytest.fixture(scope="session")
def apache() -> Iterator[ApacheZooKeeper]:
    """A running server that all tests of this process share: do not stop, pause or kill it."""
    try:
        server = ApacheZooKeeper()
    except ZooKeeperNotInstalled as reason:
        _without_zookeeper(reason)
    with server:
        yield server


@pytest.fixture
def own_apache() -> Iterator[ApacheZooKeeper]:
    """A running server of this test's own."""
    try:
        server = ApacheZooKeeper()
    except ZooKeeperNotInstalled as reason:
        _without_zookeeper(reason)
    with server:
        yield server


@pytest.fixture
def apache_ensemble() -> Iterator[ApacheEnsemble]:
    """Three running servers of this test's own."""
    try:
        ensemble = ApacheEnsemble()
        with ensemble:
            yield ensemble
    except ZooKeeperNotInstalled as reason:
        _without_zookeeper(reason)


@pytest.fixture(scope="session")
def new_zookeeper(request: pytest.FixtureRequest) -> Callable[..., ChildServer]:
    """`new_zookeeper(tick_time=200)`: a server, not started yet, that the caller closes."""
    is_embedded = request.config.getoption("--server") == "embedded"

    def make(*, tick_time: int = 200) -> ChildServer:
        if is_embedded:
            return EmbeddedProcess(tick_time=tick_time)
        try:
            return ApacheZooKeeper(tick_time=tick_time)
        except ZooKeeperNotInstalled as reason:
            _without_zookeeper(reason)

    return make


@pytest.fixture(scope="session")
def shared_zookeeper(
    request: pytest.FixtureRequest, new_zookeeper: Callable[..., ChildServer]
) -> Iterator[ChildServer]:
    """A running server that all tests of this process share: do not stop, pause or kill it."""
    if request.config.getoption("--server") == "apache":
        yield request.getfixturevalue("apache")
        return
    with new_zookeeper() as server:
        yield server


@pytest.fixture
def own_zookeeper(new_zookeeper: Callable[..., ChildServer]) -> Iterator[ChildServer]:
    """A running server of this test's own."""
    with new_zookeeper() as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that has issued `server` and `client`."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def _kazoo(shared_zookeeper: ChildServer) -> Iterator[KazooClient]:
    client = KazooClient(shared_zookeeper.hosts, timeout=4.0)
    client.start(timeout=30)
    yield client
    client.stop()
    client.close()


@pytest.fixture
def namespace(shared_zookeeper: ChildServer, _kazoo: KazooClient) -> Iterator[str]:
    """A connect string with a fresh, existing, empty namespace, which is removed afterwards."""
    path = f"/t-{uuid.uuid4().hex}"
    _kazoo.retry(_kazoo.create, path)
    yield shared_zookeeper.hosts + path
    _remove(_kazoo, path)


def _remove(client: KazooClient, path: str) -> None:
    # What the test left running may still create nodes: its sessions end, so this ends too.
    while True:
        try:
            client.retry(client.delete, path, recursive=True)
        except NotEmptyError:
            continue
        return
