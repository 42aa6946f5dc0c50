"""What an operator asks of flows, carried out by a primary."""

from __future__ import annotations

import asyncio

import pytest

from herdmaster.core import layout
from herdmaster.core.flows import FlowState
from herdmaster.core.outcome import OutcomeState
from herdmaster.inspection.flow_seen import StepState
from herdmaster.inspection.flows import find_flow
from herdmaster.operations.flows import cancel_flow, remove_flow, retry_flow, wait_for_end
from tests.roles.primary.flow_stage import StagedFlow
from tests.roles.stage import Stage

pytestmark = pytest.mark.long


async def states(stage: Stage, flow: StagedFlow) -> dict[str, str]:
    details = await find_flow(stage.zk, flow.name)
    assert details is not None
    return {step.id: step.state.value for step in details.steps}


async def test_after_a_retry_only_what_failed_runs_and_then_what_follows(stage: Stage) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "1", "2 0 1", "2:3", "4! 3").make()
    await flow.complete("0")
    await flow.fail("1")
    await flow.complete("4")  # the step that runs after a failure
    assert await wait_for_end(stage.zk, flow.name, 15.0) is FlowState.FAILED
    assert await states(stage, flow) == {"0": "done", "1": "failed", "2": "blocked", "3": "blocked", "4": "done"}

    assert await retry_flow(stage.zk, flow.name) == 1
    assert await flow.started() == {"1"}
    (again,) = await stage.names(layout.TASKS)
    await flow.complete("1", task=again)
    await flow.complete("2", "3")
    assert await wait_for_end(stage.zk, flow.name, 15.0) is FlowState.DONE
    assert (await flow.outcome()).state is OutcomeState.DONE
    assert set((await states(stage, flow)).values()) == {"done"}


async def test_a_cancelled_flow_goes_on_where_it_stopped_after_a_retry(stage: Stage) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "1", "2 0 1").make()
    await flow.complete("0")
    assert await cancel_flow(stage.zk, flow.name) is None
    assert await wait_for_end(stage.zk, flow.name, 15.0) is FlowState.CANCELLED
    assert await states(stage, flow) == {"0": "done", "1": "cancelled", "2": "blocked"}
    assert await cancel_flow(stage.zk, flow.name) is FlowState.CANCELLED

    assert await retry_flow(stage.zk, flow.name) == 1
    (again,) = await stage.names(layout.TASKS)
    await flow.complete("1", task=again)
    await flow.complete("2")
    assert await wait_for_end(stage.zk, flow.name, 15.0) is FlowState.DONE


async def test_a_running_flow_is_cancelled_and_removed_by_force(stage: Stage) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "0:1").make()
    await remove_flow(stage.zk, flow.name, force_within=15.0)
    assert await stage.leftovers() == []


async def test_a_step_that_is_retried_while_the_rest_runs_joins_it(stage: Stage) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "1", "2 0 1").make()
    await flow.fail("0")
    retried = asyncio.ensure_future(retry_flow(stage.zk, flow.name, ["0"]))
    await flow.complete("1")
    assert await retried == 1
    details = await find_flow(stage.zk, flow.name)
    assert details is not None
    assert (details.steps[0].state, details.steps[0].run) == (StepState.PENDING, 1)
    assert details.steps[0].task is not None
    await flow.complete("0", task=details.steps[0].task)
    await flow.complete("2")
    assert await wait_for_end(stage.zk, flow.name, 15.0) is FlowState.DONE
