"""Fixtures for the tests of programs that use Herdmaster. pytest finds them by itself once Herdmaster is installed.

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
    """An empty ZooKeeper of the test's own (`herdmaster.testing.embedded.EmbeddedZooKeeper`)."""
    from herdmaster.testing.embedded import EmbeddedZooKeeper

    with EmbeddedZooKeeper() as zookeeper:
        yield zookeeper


@pytest.fixture
def herd_worker(herd_zookeeper: EmbeddedZooKeeper) -> HerdWorker:
    """`with herd_worker(herd, slots=4, masters=1, workers=1):` runs the Herd's tasks for as long.

    All the queues that the Herd's tasks name are served. Gives the connect string, whose namespace is a fresh one;
    `herd_zookeeper.kill_primary`, `kill_worker` and `worker_sessions` take it as it is. Raises TypeError for what is no
    Herd, ConfigurationError for settings that cannot work, and at the end what a `selects` of the test's has raised.
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
