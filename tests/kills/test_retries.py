"""Retries, burials and processes while a worker and the primary are killed: nothing is lost, or counted twice."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from herdmaster.api import Future
from herdmaster.errors import TaskFailed
from tests.cli.processes import connect, wait_until
from tests.kills.test_kills import APP, PATIENCE, Cluster

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

TASKS = 60


@pytest.fixture
def cluster(namespace: str) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(namespace, stack)


def submit(cluster: Cluster, function: str, *arguments: object) -> Future[object]:
    return cluster.herd.submit_call(f"{APP}:{function}", arguments)


def kill_both(cluster: Cluster) -> None:
    """The primary and a worker, at once."""
    primary = cluster.primary()
    for process in (primary, cluster.workers[0]):
        process.send(signal.SIGKILL)


@pytest.mark.long
def test_retries_survive_the_death_of_a_worker_and_of_the_primary(cluster: Cluster) -> None:
    futures = [submit(cluster, "flaky", number) for number in range(TASKS)]
    with connect(cluster.hosts) as client:
        wait_until(lambda: len(client.get_children("/delayed")) > 5, "nothing was retried", PATIENCE)
        kill_both(cluster)
        results = [future.result(timeout=PATIENCE) for future in futures]

        # A lost worker uses up no attempt, and no attempt is counted twice.
        assert results == [[number, 3] for number in range(TASKS)]
        wait_until(lambda: not client.get_children("/status"), "an outcome was left behind", PATIENCE)
        assert client.get_children("/delayed") == client.get_children("/tasks") == client.get_children("/dead") == []
    cluster.ledger.check([future.name for future in futures])


@pytest.mark.long
def test_burials_survive_the_death_of_a_worker_and_of_the_primary(cluster: Cluster) -> None:
    futures = [submit(cluster, "hopeless", number) for number in range(TASKS)]
    with connect(cluster.hosts) as client:
        wait_until(lambda: bool(client.get_children("/dead")), "nothing was buried", PATIENCE)
        kill_both(cluster)
        for number, future in enumerate(futures):
            with pytest.raises(LookupError, match=f"number {number}") as caught:
                future.result(timeout=PATIENCE)
            assert isinstance(caught.value.__cause__, TaskFailed)

        assert sorted(client.get_children("/dead")) == sorted(future.name for future in futures)
        assert client.get_children("/delayed") == client.get_children("/tasks") == []
    cluster.ledger.check([future.name for future in futures])


def test_a_killed_worker_takes_its_processes_with_it_and_their_tasks_run_elsewhere(
    cluster: Cluster, tmp_path: Path
) -> None:
    futures = [submit(cluster, "crunch", 3.0, str(tmp_path)) for _ in range(2)]
    wait_until(lambda: len(list(tmp_path.iterdir())) >= 2, "they did not begin", PATIENCE)
    began = {int(path.name) for path in tmp_path.iterdir()}
    parents = {pid: _parent(pid) for pid in began}
    victim = next(worker for worker in cluster.workers if worker.pid in parents.values())
    victim.send(signal.SIGKILL)
    orphans = {pid for pid, parent in parents.items() if parent == victim.pid}
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), "processes live on", PATIENCE)

    results = {future.result(timeout=PATIENCE) for future in futures}
    assert not results & orphans


def test_ctrl_c_reaches_the_worker_alone_which_lets_its_processes_end(cluster: Cluster, tmp_path: Path) -> None:
    future = submit(cluster, "crunch", 2.0, str(tmp_path))
    wait_until(lambda: any(tmp_path.iterdir()), "it did not begin", PATIENCE)
    (path,) = tmp_path.iterdir()
    pid = int(path.name)
    worker = next(worker for worker in cluster.workers if worker.pid == _parent(pid))
    worker.send(signal.SIGINT)

    assert worker.wait(PATIENCE) == 0
    assert future.result(timeout=PATIENCE) == pid
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its process lives on", PATIENCE)


def test_a_second_ctrl_c_ends_a_worker_and_its_processes_at_once(cluster: Cluster, tmp_path: Path) -> None:
    future = submit(cluster, "crunch", 60.0, str(tmp_path))
    wait_until(lambda: any(tmp_path.iterdir()), "it did not begin", PATIENCE)
    (path,) = tmp_path.iterdir()
    pid = int(path.name)
    worker = next(worker for worker in cluster.workers if worker.pid == _parent(pid))
    worker.send(signal.SIGINT)
    worker.wait_for_log("drains")
    worker.send(signal.SIGINT)

    assert worker.wait(PATIENCE) == 128 + signal.SIGINT
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its process lives on", PATIENCE)
    assert not future.done()  # it is for another worker now


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
