"""A task that ends its worker's process, with innocent ones beside it: it alone is buried."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from herdmaster import TaskFailed
from tests.cli.processes import HerdProcess, connect
from tests.kills.aftermath import is_alive
from tests.kills.app import end_worker, nap
from tests.kills.test_kills import APP, PATIENCE, SESSION_TIMEOUT, Cluster

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

WORKER = (f"--app={APP}", "--slots=16")


def test_of_a_poison_and_ten_innocent_tasks_only_the_poison_is_buried(namespace: str) -> None:
    with ExitStack() as stack:
        cluster = Cluster(namespace, stack, (WORKER,))
        task = cluster.herd.task(nap.function).options(max_deliveries=3)
        poison = cluster.herd.task(end_worker.function).options(max_deliveries=3).submit(0.3)
        innocent = task.submit_many((0.4, number) for number in range(10))
        deadline = time.monotonic() + PATIENCE
        while not (poison.done() and all(future.done() for future in innocent)):
            assert time.monotonic() < deadline, "it did not end"
            if not is_alive(cluster.workers[-1].pid):  # as its supervisor would
                arguments = (*WORKER, f"--session-timeout={SESSION_TIMEOUT}")
                cluster.workers.append(stack.enter_context(HerdProcess("worker", namespace, *arguments)))
            time.sleep(0.02)

        assert [future.result(0) for future in innocent] == list(range(10))
        with pytest.raises(TaskFailed, match="4 workers were lost while they held it"):
            poison.result(0)
        with connect(namespace) as client:
            assert client.get_children("/dead") == [poison.name]
        assert len(cluster.workers) == 5
