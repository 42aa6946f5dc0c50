"""Flows: written, submitted, run, and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from herdmaster import Herd
from herdmaster.api.internals import core_of
from tests.api.conftest import run_roles
from tests.api.flow_tasks import FlowApp


@pytest.fixture(scope="module")
def running(shared_zookeeper: Any) -> Iterator[str]:
    herd = Herd("localhost:1")
    FlowApp(herd)
    hosts = f"{shared_zookeeper.hosts}/flows"
    with run_roles(hosts, core_of(herd).registry.functions):
        yield hosts


@pytest.fixture
def app(running: str, make_herd: Callable[..., Herd]) -> FlowApp:
    return FlowApp(make_herd(running))


@pytest.mark.long
def test_the_flow_of_the_guide_gives_its_result(app: FlowApp) -> None:
    with app.herd.flow("report", timeout=3600) as flow:
        pages = app.fetch.step("a")
        sizes = flow.each(app.measure, pages)
        total = app.merge.step(sizes, title="all")
        app.notify.step(total, on="failure")
        flow.returns(total)
    run = flow.submit()

    assert run.result(timeout=20) == "all: [3, 3, 3]"
    assert run.name.startswith("flow-")
    assert [(step.name, step.state) for step in run.steps()] == [
        ("fetch", "done"), ("measure", "done"), ("merge", "done"), ("notify", "skipped"),
    ]  # fmt: skip
    assert (run.info().state, run.info().done) == ("done", 6)
