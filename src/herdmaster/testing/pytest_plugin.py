"""Fixtures for tests of programs that use Herdmaster. pytest finds them once Herdmaster is installed.

    def test_adding(herd_worker):
        with herd_worker(tasks.herd):
            assert tasks.add.submit(2, 3).result(5) == 5

A `Herd("prod:2181")` of the program is directed to an embedded ZooKeeper for as long. Nothing but pytest is imported
before a fixture is used.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from herdmaster import Herd
    from herdmaster.testing.embedded import EmbeddedZooKeeper

HerdWorker = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def herd_zookeeper() -> Iterator[EmbeddedZooKeeper]:
    """An empty ZooKeeper for this test alone (`herdmaster.testing.embedded.EmbeddedZooKeeper`)."""
    from herdmaster.testing.embedded import EmbeddedZooKeeper

    with EmbeddedZooKeeper() as zookeeper:
        yield zookeeper


@pytest.fixture
def herd_worker(herd_zookeeper: EmbeddedZooKeeper) -> HerdWorker:
    """Run masters and workers for a Herd in a block: `with herd_worker(herd, slots=4, masters=1, workers=1):`.

    The workers serve every queue that the Herd's tasks name. Yields the connect string, with a fresh namespace;
    `herd_zookeeper.kill_primary`, `kill_worker` and `worker_sessions` take it. Raises TypeError if this is not a Herd,
    ConfigurationError for settings that cannot work, and at the end what a `selects` of the test raised.
    """

    @contextlib.contextmanager
    def run(
        herd: Herd, *, slots: int = 4, masters: int = 1, workers: int = 1, session_timeout: float = 4.0
    ) -> Iterator[str]:
        from herdmaster.roles.primary.master import Master, MasterSettings
        from herdmaster.testing.checks import check_count
        from herdmaster.testing.running import RunningRoles, check_herd, make_namespace_of, make_workers

        check_herd(herd)
        check_count("masters", masters, 0)
        check_count("workers", workers, 0)
        hosts = f"{herd_zookeeper.hosts}/{uuid.uuid4().hex}"
        make_namespace_of(hosts)
        try:
            with herd.directed_to(hosts):
                roles = [
                    *make_workers(herd, hosts, workers, slots, session_timeout),
                    *(Master(hosts, MasterSettings(session_timeout)) for _ in range(masters)),
                ]
                with RunningRoles(*roles):
                    yield hosts
        finally:
            herd_zookeeper.check_selects()

    return run
