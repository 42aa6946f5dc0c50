"""Sweeping flows: what has outlived its time goes with all its znodes, and what runs, or runs again, stays."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.flows import FlowState, encode_header
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.roles.primary.flow_sweep import FlowSweep
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.primary.sweeper import Ages
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.flow_removal import remove_flow
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import OPEN_ACL, Acl, Id, Permission
from tests.proxy import Proxy, multi_with
from tests.roles.primary.flow_stage import StagedFlow
from tests.roles.stage import TIMEOUT, Stage

pytestmark = pytest.mark.long

TTL = 100.0
BUILDING = 10.0
STEPS = ("0", "1", "0:2", "3 1 2", "4! 3")


@pytest.fixture(autouse=True)
async def folders(stage: Stage) -> None:
    await make_folders(stage.zk)


async def flow_in(stage: Stage, state: FlowState, ttl: float | None = None) -> StagedFlow:
    """A flow with something in each of its folders, whose header says that it is in this state."""
    flow = await StagedFlow(stage, *STEPS).make()
    await flow.complete("1")
    await flow.fail("0")
    header = msgspec.structs.replace(await flow.header(), state=state, ttl=ttl)
    await stage.zk.set(layout.flow_path(flow.name), encode_header(header))
    if state is not FlowState.RUNNING:
        await stage.zk.delete(layout.flow_running_path(flow.name))
        status = encode_outcome(flow.name, Outcome(OutcomeState.FAILED))
        await stage.zk.create(layout.status_path(flow.name), status)
    return flow


async def written_at(stage: Stage, flow: StagedFlow) -> int:
    stat = await stage.zk.exists(layout.flow_path(flow.name))
    assert stat is not None
    return stat.mtime


def sweep_of(stage: Stage) -> FlowSweep:
    return FlowSweep(stage.zk, TTL, BUILDING)


@pytest.mark.parametrize(
    ("state", "ttl", "seconds"),
    [
        (FlowState.DONE, None, TTL),
        (FlowState.FAILED, 5.0, 5.0),
        (FlowState.CANCELLED, None, TTL),
        (FlowState.EXPIRED, 1000.0, 1000.0),
        (FlowState.BUILDING, 5.0, BUILDING),
    ],
)
async def test_a_flow_is_deleted_with_all_its_znodes_when_its_time_is_over(
    stage: Stage, state: FlowState, ttl: float | None, seconds: float
) -> None:
    flow = await flow_in(stage, state, ttl)
    sweep, written = sweep_of(stage), await written_at(stage, flow)
    await sweep.sweep(written + int(seconds * 1000) - 1)
    assert await stage.exists(layout.flow_path(flow.name))
    await sweep.sweep(written + int(seconds * 1000))
    assert await stage.names(layout.FLOWS) == await stage.names(layout.STATUS) == []


async def test_a_large_flow_that_its_client_abandoned_is_deleted_after_an_hour(stage: Stage) -> None:
    flow = StagedFlow(stage, *map(str, range(600)), *(f"{join} {join - 1000} 599" for join in range(1000, 1300)))
    await flow.make_abandoned()
    before = await stage.zk.count_descendants(layout.FLOWS)
    assert before > 1500  # flow, folders, steps and edges
    sweep, written = FlowSweep(stage.zk, TTL, Ages().building), await written_at(stage, flow)
    await sweep.sweep(written + 3_600_000 - 1)
    assert await stage.zk.count_descendants(layout.FLOWS) == before
    await sweep.sweep(written + 3_600_000)
    assert await stage.zk.count_descendants(layout.FLOWS) == 0


async def test_a_flow_that_runs_stays_however_old_it_is(stage: Stage) -> None:
    flow = await flow_in(stage, FlowState.RUNNING)
    sweep, written = sweep_of(stage), await written_at(stage, flow)
    await sweep.sweep(written + 10**9)
    await sweep.sweep(written + 10**9)
    assert await flow.names("steps") == ["0:2", "3", "4!"]
    await stage.clear(layout.TASKS)


async def test_a_removal_that_was_begun_is_finished(stage: Stage) -> None:
    await flow_in(stage, FlowState.REMOVED)
    await sweep_of(stage).sweep(0)
    assert await stage.names(layout.FLOWS) == []


async def test_a_flow_that_a_client_gives_away_is_removed_before_its_time(stage: Stage) -> None:
    flow = await flow_in(stage, FlowState.DONE)
    sweep, written = sweep_of(stage), await written_at(stage, flow)
    await sweep.sweep(written)
    header = msgspec.structs.replace(await flow.header(), state=FlowState.REMOVED)
    await stage.zk.set(layout.flow_path(flow.name), encode_header(header))
    await sweep.sweep(written + int(BUILDING * 1000))
    assert await stage.names(layout.FLOWS) == []


async def test_a_flow_without_a_header_is_deleted_and_one_of_a_later_version_stays(stage: Stage) -> None:
    left, later = await flow_in(stage, FlowState.DONE), await flow_in(stage, FlowState.DONE)
    await stage.zk.set(layout.flow_path(left.name), b"")
    await stage.zk.set(layout.flow_path(later.name), b'{"herd":2}')
    await stage.put(f"{layout.FLOWS}/foreign")
    sweep, written = sweep_of(stage), await written_at(stage, later)
    await sweep.sweep(written)
    assert len(await stage.names(layout.FLOWS)) == 3
    await sweep.sweep(written + 10**9)
    assert await stage.names(layout.FLOWS) == [later.name, "foreign"]


async def test_a_flow_that_runs_again_meanwhile_stays(stage: Stage) -> None:
    flow = await flow_in(stage, FlowState.FAILED)
    sweep, written = sweep_of(stage), await written_at(stage, flow)
    await sweep.sweep(written)
    again = await flow.reopen("0")
    await sweep.sweep(written + 10**9)
    assert await flow.is_running()
    assert await stage.exists(layout.task_path(again))
    await stage.clear(layout.TASKS)


async def test_a_flow_that_runs_again_just_before_it_is_removed_stays(namespace: str, stage: Stage) -> None:
    flow = await flow_in(stage, FlowState.FAILED)
    written = await written_at(stage, flow)
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=TIMEOUT) as client:
        held = proxy.hold_request(multi_with(layout.flow_path(flow.name), '"state":"removed"'))
        sweeping = asyncio.ensure_future(FlowSweep(client, TTL, BUILDING).sweep(written + 10**9))
        await held.happened.wait()
        await flow.reopen("0")
        held.go_on.set()
        await sweeping
    assert await flow.is_running()
    assert await flow.names("results") == ["1"]
    await stage.clear(layout.TASKS)


async def test_a_flow_is_read_again_just_before_it_is_removed(stage: Stage) -> None:
    kept, later = await flow_in(stage, FlowState.DONE), await flow_in(stage, FlowState.DONE)
    sweep, written = FlowSweep(stage.zk, TTL, 100 * TTL), await written_at(stage, later)
    await sweep.sweep(written)
    longer = msgspec.structs.replace(await kept.header(), ttl=10 * TTL)
    await stage.zk.set(layout.flow_path(kept.name), encode_header(longer))
    await stage.zk.set(layout.flow_path(later.name), b'{"herd":2}')
    await sweep.sweep(written + int(TTL * 1000))
    assert await stage.names(layout.FLOWS) == sorted((kept.name, later.name))


async def test_a_late_removal_does_not_reach_the_next_flow_of_the_same_name(namespace: str, stage: Stage) -> None:
    flow = await flow_in(stage, FlowState.DONE)
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=TIMEOUT) as client:
        held = proxy.hold_request(multi_with(f"{layout.flow_path(flow.name)}/results/1"))
        removing = asyncio.ensure_future(remove_flow(client, flow.name))
        await held.happened.wait()
        assert await remove_flow(stage.zk, flow.name)
        again = await StagedFlow(stage, *STEPS, name=flow.name).make()
        await again.complete("1")
        held.go_on.set()
        assert not await removing
    assert await again.names("results") == ["1"]
    await stage.clear(layout.TASKS)


async def test_a_flow_that_may_not_be_deleted_does_not_hold_up_the_others(stage: Stage) -> None:
    first, _ = await flow_in(stage, FlowState.DONE), await flow_in(stage, FlowState.DONE)
    path = f"{layout.flow_path(first.name)}/results"
    await stage.zk.set_acl(path, (Acl(int(Permission.ALL & ~Permission.DELETE), Id("world", "anyone")),))
    with pytest.raises(errors.NoAuth):
        await sweep_of(stage).sweep(10**14)
    assert await stage.names(layout.FLOWS) == [first.name]
    await stage.zk.set_acl(path, OPEN_ACL)
    await sweep_of(stage).sweep(10**14)
    assert await stage.names(layout.FLOWS) == []


@pytest.mark.parametrize("lose", ["request", "reply"])
async def test_a_master_sweeps_flows_also_when_answers_are_lost(namespace: str, stage: Stage, lose: str) -> None:
    flow = await flow_in(stage, FlowState.DONE)
    async with Proxy(namespace) as proxy:
        getattr(proxy, f"lose_{lose}")(multi_with(layout.flow_result_path(flow.name, "1")))
        ages = Ages(outcome=0.5, dead=3600.0, journal=3600.0)
        await stage.master(MasterSettings(session_timeout=TIMEOUT, ages=ages), hosts=proxy.hosts)
        await stage.until_empty(layout.FLOWS, layout.STATUS)
