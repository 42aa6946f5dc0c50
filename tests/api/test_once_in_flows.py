"""`once` in the steps of flows, and in the items of a map."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from herdmaster import Herd, TaskFailed, current_task
from herdmaster.api.internals import core_of
from herdmaster.operations import flows
from herdmaster.testing.child_server import ChildServer
from herdmaster.zookeeper.client import Client
from tests.api.conftest import run_roles
from tests.cli.processes import run_herd

pytestmark = pytest.mark.long

runs: Counter[str] = Counter()
calls: Counter[str] = Counter()
"""How often steps and items have run, and have done what they do once."""
broken: set[str] = set()
"""Steps and items that fail after what they did once."""


def list_of(names: list[str]) -> list[str]:
    return names


def order(name: str) -> int:
    def count() -> int:
        calls[name] += 1
        return calls[name]

    runs[name] += 1
    counted = current_task().once("order", count)
    if name in broken:
        raise LookupError(name)
    return counted


def order_in_first_attempts(name: str) -> int:
    found = order(name)
    if current_task().attempt == 1 and name == "b":
        raise LookupError(name)
    return found


@pytest.fixture(scope="module")
def served(shared_zookeeper: ChildServer) -> Iterator[str]:
    hosts = f"{shared_zookeeper.hosts}/once-in-flows"
    herd = Herd("localhost:1")
    herd.task(list_of)
    herd.task(order)
    herd.task(order_in_first_attempts)
    with run_roles(hosts, core_of(herd).registry.functions):
        yield hosts


@pytest.fixture
def herd(served: str, make_herd: Callable[..., Herd]) -> Herd:
    return make_herd(served)


def test_a_step_that_is_run_again_by_a_retry_of_its_flow_finds_what_was_saved(herd: Herd, served: str) -> None:
    task = herd.task(order)
    broken.add("step")
    with herd.flow("orders") as flow:
        flow.returns(task.step("step"))
    run = flow.submit()
    with pytest.raises(TaskFailed):
        run.result(30)
    broken.discard("step")
    assert run_herd("flows", "retry", run.name, "--zookeeper", served).returncode == 0
    assert herd.future(run.name).exception(30) is None
    assert calls["step"] == 1


def test_a_retry_of_a_flow_runs_all_items_of_a_failed_chunk_and_they_find_what_they_saved(
    herd: Herd, served: str
) -> None:
    task = herd.task(order)
    broken.add("second")
    names = herd.task(list_of)
    with herd.flow("orders") as flow:
        flow.returns(flow.each(task, names.step(["first", "second", "third"]), chunk_size=2))
    run = flow.submit()
    with pytest.raises(TaskFailed):
        run.result(30)
    assert runs["first"] == 1
    broken.discard("second")
    assert asyncio.run(retry(served, run.name)) == 1
    assert herd.flow_run(run.name).result(30) == [1, 1, 1]
    assert [calls[name] for name in ("first", "second", "third")] == [1, 1, 1]
    assert [runs[name] for name in ("first", "second", "third")] == [2, 2, 1]


async def retry(hosts: str, flow: str) -> int:
    async with Client(hosts, session_timeout=4.0) as client:
        return await flows.retry_flow(client, flow)


def test_items_of_a_chunk_that_is_tried_again_find_what_they_saved(herd: Herd) -> None:
    task = herd.task(order_in_first_attempts).options(max_attempts=2, backoff=0)
    assert list(task.map(["a", "b", "c"], chunksize=3)) == [1, 1, 1]
    assert [calls[name] for name in "abc"] == [1, 1, 1]
