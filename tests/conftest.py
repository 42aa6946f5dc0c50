"""Fixtures for all tests: Apache's ZooKeeper, one server per process, a fresh namespace per test."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from typing import NoReturn

import kazoo.protocol.connection
import kazoo.retry
import pytest
from hypothesis import HealthCheck, settings
from kazoo.client import KazooClient
from kazoo.exceptions import NotEmptyError

from herdmaster.testing.apache import ApacheEnsemble, ApacheZooKeeper, ZooKeeperNotInstalled

# Hypothesis watches the global generator, and takes a draw from it by another thread for a fault of the test. kazoo's
# threads draw their jitter from it, so they get one of their own.
for module in (kazoo.protocol.connection, kazoo.retry):
    module.random = random.Random()

_CI = os.environ.get("CI") == "true"
_NEEDS_APACHE = {"apache", "namespace", "own_apache", "apache_ensemble"}

# The machine is shared, so time says nothing about a pure function; in CI a run must be repeatable.
settings.register_profile("herdmaster", deadline=None, derandomize=_CI, suppress_health_check=(HealthCheck.too_slow,))
settings.load_profile("herdmaster")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _NEEDS_APACHE.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.apache)


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
def _kazoo(apache: ApacheZooKeeper) -> Iterator[KazooClient]:
    client = KazooClient(apache.hosts, timeout=4.0)
    client.start(timeout=30)
    yield client
    client.stop()
    client.close()


@pytest.fixture
def namespace(apache: ApacheZooKeeper, _kazoo: KazooClient) -> Iterator[str]:
    """A connect string with a fresh, existing, empty namespace, which is removed afterwards."""
    path = f"/t-{uuid.uuid4().hex}"
    _kazoo.retry(_kazoo.create, path)
    yield apache.hosts + path
    _remove(_kazoo, path)


def _remove(client: KazooClient, path: str) -> None:
    # What the test left running may still create nodes: its sessions end, so this ends too.
    while True:
        try:
            client.retry(client.delete, path, recursive=True)
        except NotEmptyError:
            continue
        return
