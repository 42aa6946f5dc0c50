"""Flows whose steps, items, added steps and results are signed, and which run again without keys."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from herdmaster import BadSignature, FlowFuture, Herd, TaskFailed
from herdmaster.api.internals import core_of
from herdmaster.core import layout
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome, encode_result
from herdmaster.core.signing import Keyring, SignedOnly
from herdmaster.operations import flows
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.testing.running import RunningRoles
from herdmaster.zookeeper.client import Client
from tests.api.conftest import SESSION_TIMEOUT
from tests.api.flow_tasks import FlowApp, gates
from tests.api.znodes import wait_until

pytestmark = pytest.mark.long
KEYS = {"2026a": b"topsecret" * 4}


_mended = threading.Event()


def mend(value: int) -> int:
    """Fail until it is mended."""
    if not _mended.is_set():
        raise ValueError("it is not mended")
    return value


def add_up(first: int, _gate: str) -> int:
    return first


class SignedApp(FlowApp):
    def __init__(self, herd: Herd) -> None:
        super().__init__(herd)
        self.mend = herd.task(mend)
        self.add_up = herd.task(add_up)


@pytest.fixture
def app(namespace: str) -> Iterator[SignedApp]:
    """Its worker runs signed tasks only."""
    with ExitStack() as stack:
        app = SignedApp(stack.enter_context(Herd(namespace, session_timeout=2.0, signing_keys=KEYS)))
        settings = WorkerSettings(SESSION_TIMEOUT, slots=8, drain_timeout=5.0)
        worker = Worker(
            namespace, core_of(app.herd).registry.functions, settings, lambda _name, _data: None,
            signed_only=SignedOnly(Keyring(KEYS)),
        )  # fmt: skip
        stack.enter_context(RunningRoles(worker, Master(namespace, MasterSettings(SESSION_TIMEOUT))))
        yield app


async def retry(hosts: str, flow: str) -> int:
    async with Client(hosts, session_timeout=4.0) as client:
        return await flows.retry_flow(client, flow)


def test_a_flow_of_signed_steps_runs_and_an_operator_without_keys_runs_a_step_of_it_again(
    app: SignedApp, namespace: str
) -> None:
    _mended.clear()
    with app.herd.flow("signed") as flow:
        sizes = flow.each(app.measure, app.fetch.step("a"))
        total = app.mend.step(app.total.step(sizes))
        grown = app.grow.step(2)
        chunks = flow.each(app.measure, app.fetch.step("a"), chunk_size=2)
        flow.returns([total, grown, chunks])
    run = flow.submit()
    with pytest.raises(TaskFailed, match="it is not mended"):
        run.result(timeout=20)

    _mended.set()
    assert asyncio.run(retry(namespace, run.name)) == 1
    assert app.herd.flow_run(run.name).result(timeout=20) == [9, 2, [3, 3, 3]]
    assert {step.state.value for step in run.steps()} == {"done"}
    assert len(run.steps()) > 8  # with items and added steps


async def forge(hosts: str, flow: str, step: str) -> None:
    """Put a result without a signature in the place of another."""
    data = encode_outcome(f"{flow}/{step}", Outcome(OutcomeState.DONE, encode_result(100)))
    async with Client(hosts, session_timeout=4.0) as client:
        await client.set(layout.flow_result_path(flow, step), data)


def until_done(run: FlowFuture[Any], step: str) -> None:
    wait_until(lambda: {each.id: each.state for each in run.steps()}.get(step) == "done", f"step {step} to be done")


def test_a_forged_result_is_not_taken(app: SignedApp, namespace: str) -> None:
    gate = gates["forged"] = threading.Event()
    with app.herd.flow("forged") as flow:
        first = app.total.step([1])
        held = app.wait.step("forged", after=[first])
        flow.returns(app.add_up.step(first, held))
    run = flow.submit()
    until_done(run, "0")
    asyncio.run(forge(namespace, run.name, "0"))
    gate.set()
    with pytest.raises(TaskFailed, match="is not signed"):
        run.result(timeout=20)


async def rewrite(hosts: str, flow: str, old: bytes, new: bytes) -> None:
    """Change the header of a flow."""
    async with Client(hosts, session_timeout=4.0) as client:
        data = (await client.get(layout.flow_path(flow)))[0] or b""
        assert old in data
        await client.set(layout.flow_path(flow), data.replace(old, new))


def test_a_forged_header_is_not_taken(app: SignedApp, namespace: str) -> None:
    with app.herd.flow("forged header", keep_outcome=600) as flow:
        flow.returns({"sum": app.total.step([1]), "limit": 5})
    run = flow.submit()
    assert run.result(timeout=20) == {"sum": 1, "limit": 5}
    asyncio.run(rewrite(namespace, run.name, b'"limit":5', b'"limit":6'))
    with pytest.raises(BadSignature, match="the signature of the header is wrong"):
        app.herd.flow_run(run.name).result(timeout=20)
    asyncio.run(rewrite(namespace, run.name, b'"limit":6', b'"limit":5'))
    assert app.herd.flow_run(run.name).result(timeout=20) == {"sum": 1, "limit": 5}


async def exchange(hosts: str, flow: str, step: str, data: bytes | None = None) -> bytes:
    """Return the result of a step as it was, and put this one in its place."""
    async with Client(hosts, session_timeout=4.0) as client:
        path = layout.flow_result_path(flow, step)
        before = (await client.get(path))[0] or b""
        if data is not None:
            await client.set(path, data)
        return before


async def remove(hosts: str, flow: str) -> None:
    async with Client(hosts, session_timeout=4.0) as client:
        await flows.remove_flow(client, flow)
        while await client.exists(layout.flow_path(flow)) is not None:
            await asyncio.sleep(0.02)


def test_a_result_of_the_flow_before_with_the_same_key_is_not_taken(app: SignedApp, namespace: str) -> None:
    def submit(value: int) -> FlowFuture[Any]:
        gates[f"again-{value}"] = threading.Event()
        with app.herd.flow("again", key="1", keep_outcome=600) as flow:
            first = app.total.step([value])
            held = app.wait.step(f"again-{value}", after=[first])
            flow.returns([app.add_up.step(first, held), first])
        return flow.submit()

    run = submit(1)
    gates["again-1"].set()
    assert run.result(timeout=20) == [1, 1]
    old = asyncio.run(exchange(namespace, run.name, "0"))
    asyncio.run(remove(namespace, run.name))

    assert submit(2).name == run.name
    until_done(run, "0")
    new = asyncio.run(exchange(namespace, run.name, "0", old))
    gates["again-2"].set()
    with pytest.raises(TaskFailed, match="the signature of the outcome is wrong"):
        app.herd.flow_run(run.name).result(timeout=20)

    asyncio.run(exchange(namespace, run.name, "0", new))
    assert asyncio.run(retry(namespace, run.name)) == 1
    assert app.herd.flow_run(run.name).result(timeout=20) == [2, 2]
    asyncio.run(exchange(namespace, run.name, "0", old))
    with pytest.raises(BadSignature, match="is wrong"):
        app.herd.flow_run(run.name).result(timeout=20)
