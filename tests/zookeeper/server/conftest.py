"""The two servers that may be fuzzed, and what a test says to whoever runs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import pytest

from herdmaster.testing.apache import QUICK_START, ApacheZooKeeper, ZooKeeperNotInstalled
from herdmaster.zookeeper.server import EmbeddedServer, Limits
from tests.zookeeper.server.threaded import ServerThread

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
    with ServerThread(EmbeddedServer(tick_time=200, min_session_timeout=400, limits=limits)) as thread:
        yield thread


@pytest.fixture(scope="module")
def private_apache() -> Iterator[ApacheZooKeeper]:
    """A server that may be fuzzed: nobody else uses it."""
    options = ("-Dzookeeper.forceSync=no", "-Dzookeeper.extendedTypesEnabled=true")
    sweep = f"-Dznode.container.checkIntervalMs={NEVER}"
    bounds = {"minSessionTimeout": "400", "maxSessionTimeout": "40000"}
    try:
        server = ApacheZooKeeper(tick_time=200, settings=bounds, java_options=(*QUICK_START, *options, sweep))
    except ZooKeeperNotInstalled as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))
    with server:
        yield server
