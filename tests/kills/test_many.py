"""A worker and the primary die in the middle of a map: every item's result comes, once and in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from herdmaster import HerdExecutor
from tests.kills.app import nap
from tests.kills.test_kills import PATIENCE, Cluster

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

ITEMS = 400


@pytest.fixture
def cluster(namespace: str) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(namespace, stack)


@pytest.mark.long
def test_chunks_and_an_executor_outlive_a_worker_and_the_primary(cluster: Cluster) -> None:
    task = cluster.herd.task(nap.function)
    executor = HerdExecutor(cluster.herd)
    beside = executor.map(task, [0.02] * 100, range(100))
    futures = task.submit_many((0.02, number) for number in range(100))

    for done, result in enumerate(task.map([0.02] * ITEMS, range(ITEMS), chunksize=10, window=200)):
        assert result == done
        if done == 30:
            cluster.workers[0].kill()
        if done == 60:
            cluster.primary().kill()

    assert done == ITEMS - 1
    assert list(beside) == list(range(100))
    assert [future.result(PATIENCE) for future in futures] == list(range(100))
    cluster.wait(lambda seen: seen.tasks.backlog == seen.tasks.assigned == seen.tasks.recovering == 0)
    cluster.wait(lambda seen: seen.tasks.ended == 0)
