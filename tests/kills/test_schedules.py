"""Schedules while masters are killed and everything is restarted: each time has one task, by ZooKeeper's own log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise

import msgspec
import pytest

from chaos.ticks import TickJudge
from chaos.transactions import TransactionLogs
from herdmaster.core.schedules import Missed, Overlap, Schedule
from herdmaster.core.timetable import Every
from herdmaster.operations.schedule_plan import apply_schedules
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.testing.apache import ApacheEnsemble, ApacheZooKeeper
from herdmaster.zookeeper.client import Client
from tests.cli.processes import HerdProcess
from tests.kills.aftermath import kill
from tests.kills.test_kills import PATIENCE
from tests.roles.stage import call_payload

pytestmark = pytest.mark.apache

COUNT = 10
SECOND = 1000
SESSION_TIMEOUT = 1.0
KILL_SECONDS = 2.5
PAYLOAD = msgspec.Raw(call_payload("tests.kills.app:nap", 0.0, 1))


class Cluster:
    """Two masters and a worker, beside servers whose logs are read."""

    def __init__(self, servers: Sequence[ApacheZooKeeper], stack: ExitStack) -> None:
        self._servers = servers
        self._hosts = ",".join(server.hosts for server in servers)
        self._stack = stack
        self._logs = TransactionLogs([server.data_dir for server in servers])
        self.masters = [self._start("master") for _ in range(2)]
        self.worker = self._start_worker()

    def _start(self, *arguments: str) -> HerdProcess:
        role, *options = arguments
        timeout = f"--session-timeout={SESSION_TIMEOUT}"
        return self._stack.enter_context(HerdProcess(role, self._hosts, timeout, *options))

    def _start_worker(self) -> HerdProcess:
        return self._start("worker", "--app=tests.kills.app", "--slots=8")

    def kill_a_master(self, number: int) -> None:
        """The older of the two: it is the primary, or was it until a moment ago."""
        kill(self.masters.pop(0))
        self.masters.append(self._start("master"))
        assert len(self.masters) == 2, number

    def restart_everything(self) -> None:
        kill(*self.masters, self.worker)
        for server in self._servers:
            server.kill()
        for server in self._servers:
            server.launch()
        for server in self._servers:
            server.wait_until_serving(PATIENCE)
        self.masters = [self._start("master") for _ in range(2)]
        self.worker = self._start_worker()

    def judge(self) -> TickJudge:
        judge = TickJudge()
        judge.read(self._logs.read())
        return judge


@pytest.fixture
def cluster(own_apache: ApacheZooKeeper) -> Iterator[Cluster]:
    with ExitStack() as stack:
        asyncio.run(declare(own_apache.hosts))
        yield Cluster([own_apache], stack)


@pytest.fixture
def wide_cluster(apache_ensemble: ApacheEnsemble) -> Iterator[Cluster]:
    with ExitStack() as stack:
        asyncio.run(declare(apache_ensemble.hosts))
        yield Cluster(apache_ensemble.members, stack)


async def declare(hosts: str) -> None:
    """Ten schedules that are due every second, a tenth of a second apart."""
    wanted = {
        f"every-second-{number}": Schedule(
            id=f"{number:08x}",
            timetable=Every(SECOND, number * SECOND // COUNT),
            payload=PAYLOAD,
            missed=Missed.ALL,
            overlap=Overlap.ALLOW,
        )
        for number in range(COUNT)
    }
    async with Client(hosts, session_timeout=10.0, connect_timeout=20.0) as client:
        await make_folders(client)
        await apply_schedules(client, "tests", wanted)


def check(cluster: Cluster, times: int) -> None:
    """Wait until there were so many times of each schedule, and look at all of them."""
    deadline = time.monotonic() + PATIENCE
    while True:
        judge = cluster.judge()
        if len(judge.made) == COUNT and all(len(made) >= times for made in judge.made.values()):
            break
        assert time.monotonic() < deadline, {name: len(made) for name, made in judge.made.items()}
        time.sleep(0.5)
    assert judge.faults == []
    for name, made in judge.made.items():
        dues = [each.due_ms for each in made]
        assert all(second - first == SECOND for first, second in pairwise(dues)), (name, dues)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_each_second_has_one_task_while_the_primary_is_killed_again_and_again(cluster: Cluster) -> None:
    for number in range(4):
        time.sleep(KILL_SECONDS)
        cluster.kill_a_master(number)
    check(cluster, times=10)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_thousand_times_have_one_task_each_while_everything_is_killed_and_restarted(wide_cluster: Cluster) -> None:
    for number in range(36):
        time.sleep(KILL_SECONDS)
        if number % 6 == 5:
            wide_cluster.restart_everything()
        else:
            wide_cluster.kill_a_master(number)
    check(wide_cluster, times=100)
