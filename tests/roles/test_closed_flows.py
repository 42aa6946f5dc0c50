"""Flows in a closed namespace: each role, operators and clients need nothing but the rights of their identity."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.access import Identity, Kind, kind_of
from herdmaster.core.children import encode_parent
from herdmaster.core.flow_creation import NewFlow, NewStep, entry_of
from herdmaster.core.flows import EACH_CALL, Each, FlowHeader, FlowState, FlowStep, Reference, decode_header, step_task
from herdmaster.core.names import UlidFactory, flow_name
from herdmaster.core.options import RunOptions
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.errors import HerdError, NotSubmitted
from herdmaster.inspection.flows import find_flow, list_flows
from herdmaster.operations import flows
from herdmaster.roles.shared.access import acl_of_kind, use_policy
from herdmaster.running.adopting import adopt
from herdmaster.running.registration import Function, Registration
from herdmaster.zookeeper import errors
from tests.closed import POLICY, session_of
from tests.roles.closed_stage import ClosedStage, closed_stage, deviating, note_creations, refusals
from tests.roles.stage import StagedClient, Submitted, until

pytestmark = pytest.mark.long
_ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)


@pytest.fixture
async def stage(namespace: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[ClosedStage]:
    caplog.set_level(logging.INFO, "herdmaster")
    async with closed_stage(namespace) as stage:
        yield stage


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    return note_creations(monkeypatch)


class Draft:
    """A flow to be."""

    def __init__(self) -> None:
        self.name = flow_name(_ulids.new())
        self._now = time.time_ns() // 1_000_000
        self._parents: dict[str, tuple[tuple[str, ...], str]] = {}
        self._calls: dict[str, Call] = {}

    def add(
        self, step: str, call: str, *args: object, parents: tuple[str, ...] = (), mark: str = "", queue: str = "default"
    ) -> None:
        """Add a step whose first arguments are the results of its parents; of an `each` those of all its items."""
        places = [*(None for _ in parents), *args]
        refs = tuple(Reference(("args", at), each, each in self._eaches) for at, each in enumerate(parents))
        self._put(
            step, Call(1, call, *encode_arguments(places, {}), flow=self._flow(step, call, refs, queue)), parents, mark
        )

    def add_each(self, step: str, call: str, parent: str) -> None:
        item = Call(1, call, *encode_arguments((None,), {}), flow=FlowStep("", "", call, ""))
        flow = msgspec.structs.replace(
            self._flow(step, call, (Reference((), parent),)), each=Each(msgspec.Raw(encode_call(item)), "default", 5)
        )
        self._put(step, Call(1, EACH_CALL, *encode_arguments((), {}), flow=flow), (parent,))

    def flow(self, parent: str | None = None, **changes: object) -> NewFlow:
        header = FlowHeader(1, "report", self._now, FlowState.BUILDING, len(self._calls))
        steps = tuple(self._step(step) for step in self._calls)
        return NewFlow(self.name, msgspec.structs.replace(header, **changes), steps, parent=parent)

    @property
    def _eaches(self) -> set[str]:
        return {step for step, call in self._calls.items() if call.call == EACH_CALL}

    def _flow(self, step: str, call: str, refs: tuple[Reference, ...], queue: str = "default") -> FlowStep:
        return FlowStep(self.name, step, call, step_task(self._now, self.name, step, queue, 5), refs=refs)

    def _put(self, step: str, call: Call, parents: tuple[str, ...], mark: str = "") -> None:
        self._calls[step], self._parents[step] = call, (parents, mark)

    def _entry(self, step: str) -> tuple[str, tuple[str, ...]]:
        parents, mark = self._parents[step]
        return entry_of(step, mark, parents, follows=self._eaches.isdisjoint(parents))

    def _step(self, step: str) -> NewStep:
        call = self._calls[step]
        assert call.flow is not None
        joins = tuple(entry for entry, edges in map(self._entry, self._calls) if step in edges)
        changes: dict[str, object] = {"joins": joins}
        if call.flow.each is not None:
            item = msgspec.json.decode(call.flow.each.item)
            item["flow"]["joins"] = joins
            raw = msgspec.Raw(msgspec.json.encode(item))
            changes["each"] = msgspec.structs.replace(call.flow.each, item=raw)
        flow = msgspec.structs.replace(call.flow, **changes)
        entry, edges = self._entry(step)
        return NewStep(entry, flow.task, encode_call(msgspec.structs.replace(call, flow=flow)), edges)


def put(client: StagedClient, flow: NewFlow) -> Submitted:
    submitted = Submitted(flow.name)

    def handle_accepted(error: HerdError | None) -> None:
        if error is None:
            submitted.accepted.set_result(None)
        else:
            submitted.accepted.set_exception(error)

    client.submit_flow(flow, handle_accepted, submitted.handle_ended, lambda: None)
    return submitted


async def is_removed(stage: ClosedStage, flow: str) -> bool:
    """Say whether a flow is gone, or is to be deleted by a master."""
    try:
        return decode_header(await stage.data(layout.flow_path(flow))).state is FlowState.REMOVED
    except errors.NoNode:
        return True


def of_every_kind() -> Draft:
    """A chain, a join, an `each` with a join of its items, a step that fails, and what waits for failures."""
    draft = Draft()
    draft.add("0", "m:add", 1, 2)
    draft.add("1", "m:add", 1, parents=("0",))
    draft.add("2", "m:add", parents=("0", "1"))
    draft.add("3", "m:range", parents=("2",))
    draft.add_each("4", "m:add", "3")
    draft.add("5", "m:sum", parents=("4",))
    draft.add("6", "m:fail_once", parents=("5",))
    draft.add("7", "m:told", parents=("6",), mark="!")
    draft.add("8", "m:told", parents=("0", "6"), mark="?")
    return draft


class Functions:
    """Those of `of_every_kind`. `told` are the arguments of the calls of `m:told`."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self._has_failed = False

    def of_worker(self) -> dict[str, Function | Registration]:
        return {
            "m:add": lambda *args: sum(args),
            "m:range": lambda count: list(range(count)),
            "m:sum": sum,
            "m:fail_once": Registration(self.fail_once, RunOptions()),
            "m:told": lambda *args: self.told.append(args),
        }

    def fail_once(self, value: int) -> int:
        if not self._has_failed:
            self._has_failed = True
            raise ValueError("it fails")
        return value


@pytest.mark.parametrize("operator", [Identity.CLIENT, Identity.MASTER])
async def test_flows_need_nothing_but_the_rights_of_each_identity(
    stage: ClosedStage, created: dict[str, object], caplog: pytest.LogCaptureFixture, operator: Identity
) -> None:
    functions = Functions()
    await stage.master()
    worker = await stage.worker(functions.of_worker())
    client = await stage.client()
    async with session_of(stage.hosts, operator) as caller:
        await use_policy(caller)
        draft = of_every_kind()
        submitted = put(client, draft.flow())
        outcome = await submitted.outcome()
        assert outcome.error is not None
        assert outcome.error.type == "FlowFailed"
        assert sorted(functions.told, key=str) == [(3, None), (None,)]
        assert await stage.names(layout.flow_results_path(draft.name)) != []

        assert await flows.retry_flow(caller, draft.name) == 1
        assert await flows.wait_for_end(caller, draft.name, 15.0) is FlowState.DONE
        found = await find_flow(caller, draft.name)
        assert found is not None
        assert found.info.state is FlowState.DONE
        await flows.remove_flow(caller, draft.name)
    await until(lambda: is_removed(stage, draft.name), "the removal")
    await stage.stop(worker)
    assert {path: acl for path, acl in created.items() if acl != acl_of_kind(POLICY, kind_of(path))} == {}
    assert {
        Kind.FLOW, Kind.FLOW_RUNNING, Kind.RUNNING_TASK, Kind.FLOW_STEPS, Kind.STEP, Kind.EDGE, Kind.FLOW_RESULTS,
        Kind.STEP_RESULT, Kind.FLOW_FAILED, Kind.FAILED_STEP,
    } <= set(map(kind_of, created))  # fmt: skip
    assert await deviating(stage) == []
    assert refusals(caplog) == []


@pytest.mark.parametrize("operator", [Identity.CLIENT, Identity.MASTER])
async def test_a_flow_of_several_parts_is_built_cancelled_and_removed(
    stage: ClosedStage, created: dict[str, object], caplog: pytest.LogCaptureFixture, operator: Identity
) -> None:
    await stage.master()
    gate = stage.gate()
    await stage.worker({"m:g": lambda *_: gate("g", b"")})
    client = await stage.client()
    draft = Draft()
    draft.add("0", "m:g")
    for number in range(1, 80):
        draft.add(str(number), "m:g", parents=(str(number - 1),), mark="?")
    submitted = put(client, draft.flow())
    await until(lambda: gate.entered == ["g"], "the first step to run")
    async with session_of(stage.hosts, operator) as caller:
        await use_policy(caller)
        assert await flows.cancel_flow(caller, draft.name) is None
        assert (await submitted.outcome()).state is OutcomeState.CANCELLED
        assert Kind.FLOW_CANCEL in set(map(kind_of, created))
        await flows.remove_flow(caller, draft.name)
    gate.open()
    await until(lambda: is_removed(stage, draft.name), "the removal")
    assert refusals(caplog) == []


class Parent:
    """A task that has a flow as its child and exceeds its time limit. `assignment` is its path, with the child."""

    def __init__(self, child: str, timeout: float = 0.7) -> None:
        self._timeout = timeout
        self.assignment: str | None = None
        self._child = child
        self._over = threading.Event()

    def run(self) -> None:
        self.assignment = adopt((self._child,))
        while not self._over.wait(0.05):
            pass

    def of_worker(self) -> dict[str, Function | Registration]:
        return {"m:parent": Registration(self.run, RunOptions(timeout=self._timeout)), "m:add": lambda *args: sum(args)}

    def end(self) -> None:
        self._over.set()


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_child_flow_of_a_task_that_exceeded_its_time_limit_does_not_stay(
    stage: ClosedStage, caplog: pytest.LogCaptureFixture, is_late: bool
) -> None:
    draft = Draft()
    draft.add("0", "m:add", queue="unserved")
    parent = Parent(draft.name, timeout=0.7 if is_late else 2.0)  # the child has to come in time
    await stage.master()
    await stage.worker(parent.of_worker())
    client = await stage.client()
    submitted = client.put_call("m:parent")
    await until(lambda: parent.assignment is not None, "the child")
    if is_late:
        await submitted.outcome()
    flow = put(client, draft.flow(parent=parent.assignment))
    if is_late:
        with pytest.raises(NotSubmitted, match="its parent has ended"):
            await flow.accepted
        assert not await stage.exists(layout.flow_path(draft.name))
    else:
        assert (await flow.outcome()).state is OutcomeState.CANCELLED
        assert (await submitted.outcome()).error is not None
    parent.end()
    await stage.until_gone(layout.cancel_path(draft.name))
    assert refusals(caplog) == []


@pytest.mark.fallback("TRY_LATER_SECONDS")  # a child that comes is seen by the next look at its request
async def test_a_request_that_comes_before_its_child_flow_is_kept_for_it(stage: ClosedStage) -> None:
    draft = Draft()
    draft.add("0", "m:add", queue="unserved")
    parent = Parent(draft.name, timeout=60)
    await stage.master()
    await stage.worker(parent.of_worker())
    client = await stage.client()
    client.put_call("m:parent")
    await until(lambda: parent.assignment is not None, "the child")
    found = layout.split_assignment(parent.assignment or "")
    assert found is not None
    async with session_of(stage.hosts, Identity.WORKER) as worker:
        await use_policy(worker)
        await worker.create(layout.cancel_path(draft.name), encode_parent(*found))
        await worker.create(layout.cancel_path("task-0000000001"))
    await stage.until_gone(layout.cancel_path("task-0000000001"))  # so the primary has seen the other one, too
    assert await stage.exists(layout.cancel_path(draft.name))

    flow = put(client, draft.flow(parent=parent.assignment))
    assert (await flow.outcome()).state is OutcomeState.CANCELLED
    await stage.until_gone(layout.cancel_path(draft.name))
    parent.end()


async def test_an_observer_and_a_worker_change_no_flow(stage: ClosedStage) -> None:
    client = await stage.client()
    draft = of_every_kind()
    await put(client, draft.flow()).accepted
    async with (
        session_of(stage.hosts, Identity.OBSERVER) as observer,
        session_of(stage.hosts, Identity.WORKER) as worker,
    ):
        assert [info.id for info in await list_flows(observer)] == [draft.name]
        assert await find_flow(observer, draft.name) is not None
        for who in (observer, worker):
            with pytest.raises(errors.NoAuth):
                await who.create(layout.flow_cancel_path(draft.name))
            with pytest.raises(errors.NoAuth):
                await who.set(layout.flow_path(draft.name), b"")
            with pytest.raises(errors.NoAuth):
                await who.delete(layout.flow_step_path(draft.name, "0:1"))
            with pytest.raises(errors.NoAuth):
                await who.delete(layout.flow_path(draft.name))
