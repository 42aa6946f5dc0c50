"""Processes are killed in the middle of flows: each join starts once, with all results, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kazoo.exceptions import NoNodeError

from herdmaster import FlowState, StepState
from herdmaster.core.flows import decode_header
from herdmaster.operations.flows import remove_flow, wait_for_end
from herdmaster.zookeeper.client import Client
from tests.cli.processes import REPOSITORY, connect, wait_until
from tests.kills import flows_app
from tests.kills.aftermath import assert_settled, kill, wait_lines
from tests.kills.diary import BEGAN, ENDED, read
from tests.kills.test_kills import PATIENCE, Cluster

WORKER = ("--app=tests.kills.flows_app", "--slots=8")
PARTS = 150
JOIN = 1_000_000
"""The number under which a join writes into the diary."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def cluster(namespace: str) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(namespace, stack, (WORKER, WORKER))


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary"


def test_a_wide_join_starts_once_whatever_dies_before_it(cluster: Cluster, diary: Path) -> None:
    count_to = cluster.herd.task(flows_app.count_to.function)
    part = cluster.herd.task(flows_app.part.function)
    total = cluster.herd.task(flows_app.total.function)
    with cluster.herd.flow("wide") as flow:
        parts = flow.each(part, count_to.step(PARTS), diary, 0.1)
        flow.returns(total.step(parts, diary, JOIN))
    run = flow.submit()
    wait_lines(diary, ENDED, PARTS // 5)
    kill(cluster.primary())
    wait_lines(diary, ENDED, PARTS // 3)
    kill(cluster.workers[0])

    assert run.result(timeout=PATIENCE) == sum(range(PARTS))
    began = Counter(line.number for line in read(diary, BEGAN))
    assert began.pop(JOIN) == 1
    assert began.keys() == set(range(PARTS))
    again = sum(began.values()) - PARTS
    assert again < PARTS // 3, "more ran again than what the dead worker held"
    assert {step.state for step in run.steps()} == {StepState.DONE}
    assert_settled(cluster)


def test_no_item_is_made_twice_or_left_out_whose_each_is_killed(cluster: Cluster, diary: Path) -> None:
    """An `each` makes six items in a transaction, and two elements in each. The items and the join run in processes,
    and the join reads its results from a file."""
    count_to = cluster.herd.task(flows_app.count_to.function)
    part = cluster.herd.task(pool="process")(flows_app.large_part.function)
    join = cluster.herd.task(pool="process")(flows_app.count_in_process.function)
    with cluster.herd.flow("items") as flow:
        parts = flow.each(part, count_to.step(2 * PARTS), diary, "x" * 20_000, chunk_size=2)
        flow.returns(join.step(parts, diary, JOIN))
    run = flow.submit()
    with connect(cluster.hosts) as client:
        running = f"/flows/{run.name}/running"

        def find_maker() -> str | None:
            """Return the task that makes the items, once it has made some."""
            for task in client.get_children(running):
                with contextlib.suppress(NoNodeError):
                    step, _, made = client.get(f"{running}/{task}")[0].partition(b" ")
                    if step == b"1" and made:
                        return str(task)
            return None

        maker = wait_until(find_maker, "no items were made", PATIENCE)
        seen = cluster.wait(lambda _seen: True).workers
        holder = next(worker for worker in seen if maker in client.get_children(f"/assign/{worker.name}"))
        kill(next(worker for worker in cluster.workers if worker.pid == holder.pid))
        assert not client.exists(f"/flows/{run.name}/results/1"), "all items were made before the kill"

    assert run.result(timeout=PATIENCE) == [2 * PARTS, sum(range(2 * PARTS))]
    began = Counter(line.number for line in read(diary, BEGAN))
    assert began.pop(JOIN) == 1
    assert began.keys() == set(range(2 * PARTS))
    assert [step.items for step in run.steps()] == [None, {StepState.DONE: PARTS}, None]
    assert_settled(cluster)


def test_no_step_of_a_flow_runs_whose_client_died_while_it_was_submitted(cluster: Cluster, diary: Path) -> None:
    with connect(cluster.hosts) as client:
        command = [sys.executable, "-m", "tests.kills.flows_app", cluster.hosts, str(diary)]
        with subprocess.Popen(command, cwd=REPOSITORY) as process:

            def has_begun() -> bool:
                flows = client.get_children("/flows")
                return bool(flows) and bool(client.get_children(f"/flows/{flows[0]}/steps"))

            wait_until(has_begun, "no part of the flow was accepted", PATIENCE)
            process.kill()
        (flow,) = client.get_children("/flows")
        state = decode_header(client.get(f"/flows/{flow}")[0]).state
        if state is FlowState.BUILDING:
            assert not client.exists(f"/flows/{flow}/running")
            assert len(client.get_children(f"/flows/{flow}/steps")) < flows_app.STEPS
            assert read(diary, BEGAN) == []
        else:  # all was submitted before the client died
            wait_lines(diary, BEGAN, flows_app.STEPS)
            assert wait_until(lambda: asyncio.run(_wait_for_end(cluster, flow)), "it did not end") is FlowState.DONE
        asyncio.run(_remove(cluster, flow))
        assert client.get_children("/flows") == []
    assert_settled(cluster)


async def _wait_for_end(cluster: Cluster, flow: str) -> FlowState | None:
    async with Client(cluster.hosts, session_timeout=4.0, connect_timeout=10.0) as client:
        return await wait_for_end(client, flow, PATIENCE)


async def _remove(cluster: Cluster, flow: str) -> None:
    async with Client(cluster.hosts, session_timeout=4.0, connect_timeout=10.0) as client:
        await remove_flow(client, flow, force_within=PATIENCE)
