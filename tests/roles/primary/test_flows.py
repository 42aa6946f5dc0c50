"""Flows under a primary: steps start when they may, and every flow ends, whatever breaks meanwhile."""

from __future__ import annotations

import threading
import time

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.flow_end import TIMEOUT as TIMED_OUT
from herdmaster.core.flows import FlowState, OnFailure, Returns
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.payload import decode_call
from herdmaster.roles.primary import flow_starts, flow_stops
from herdmaster.roles.primary.flow_ends import MAX_KEPT
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.worker.worker import WorkerSettings
from herdmaster.zookeeper.model import Acl, Id, Permission
from tests.proxy import Proxy, multi_with
from tests.roles.primary.flow_stage import StagedFlow
from tests.roles.stage import REFERENCE, TIMEOUT, Stage, StagedWorker, until

pytestmark = pytest.mark.long


async def test_a_flow_goes_from_its_first_steps_to_its_end(stage: Stage) -> None:
    await stage.master()
    before = time.time_ns() // 1_000_000
    flow = await StagedFlow(stage, "0", "1", "0:2", "3 1 2", "4! 3", "5? 3").make()
    assert await flow.started() == {"0", "1"}
    await flow.complete("0", "1")
    second = await flow.until_started("2")
    assert second.due is not None
    assert before - 5000 <= second.due <= before + 20_000
    assert await flow.names("steps") == ["3", "4!", "5?"]
    await flow.complete("2", "3", "5")
    header = await flow.until_ended()
    assert (header.state, header.error) == (FlowState.DONE, None)
    assert header.ended is not None
    assert (await flow.outcome()).state is OutcomeState.DONE
    assert await flow.names("steps") == ["4!"]
    assert await stage.leftovers() == [layout.status_path(flow.name)]


@pytest.mark.parametrize("size", [10, MAX_KEPT])
async def test_the_last_header_says_what_the_first_one_said(stage: Stage, size: int) -> None:
    await stage.master()
    returns = Returns(msgspec.Raw(f'"{"x" * size}"'.encode()))
    flow = await StagedFlow(stage, "0").make(returns=returns, keep=True, ttl=60.0)
    first = await flow.header()
    await flow.complete("0")
    last = await flow.until_ended()
    assert last == msgspec.structs.replace(first, state=FlowState.DONE, ended=last.ended)


async def test_the_first_steps_of_a_large_flow_start_when_it_is_complete(stage: Stage) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "1", "2 0 1").make_large()
    await flow.complete("1", "0", "2")
    assert (await flow.until_ended()).state is FlowState.DONE


async def test_a_flow_that_wants_no_outcome_has_none(stage: Stage) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0").make(outcome=False)
    await flow.complete("0")
    await flow.until_ended()
    assert await stage.names(layout.STATUS) == []


async def test_what_depends_on_a_failed_step_waits_and_the_rest_goes_on(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "1", "0:2", "3 2 1", "1:4", "5! 3", "6? 4 2", "7? 1").make()
    await flow.fail("0")
    assert (await flow.until_started("5")).missing == ("3",)
    await flow.complete("1", "4")
    assert (await flow.until_started("6")).missing == ("2",)
    assert (await flow.until_started("7")).missing == ()
    assert await flow.is_running()
    await flow.complete("5", "6", "7")
    header = await flow.until_ended()
    assert header.state is FlowState.FAILED
    assert header.error is not None
    assert header.error.message == "1 step failed: 0 (m:f0): ValueError: bad; 2 steps did not start"
    outcome = await flow.outcome()
    assert (outcome.state, outcome.error) == (OutcomeState.FAILED, header.error)
    message = header.error.message
    await until(lambda: message in caplog.text, "the word")


async def test_a_flow_that_stops_ends_what_runs_but_for_marked_steps(stage: Stage) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "1", "1:2", "3! 0", "4! 2").make(on_failure=OnFailure.STOP)
    await flow.fail("0")
    await flow.until_started("3")
    assert (await flow.until_started("4")).missing == ("2",), "2 will never start"
    await stage.until_gone(layout.task_path(flow.task("1")))
    assert await flow.started() == {"3", "4"}
    await flow.complete("3", "4")
    header = await flow.until_ended()
    assert header.state is FlowState.FAILED
    assert sorted(await flow.names("failed")) == ["0", "1"]


@pytest.mark.parametrize(
    ("reason", "state", "ended"),
    [
        (b"", FlowState.CANCELLED, OutcomeState.CANCELLED),
        (TIMED_OUT, FlowState.EXPIRED, OutcomeState.EXPIRED),
    ],
)
async def test_a_cancelled_flow_starts_nothing_and_ends(
    stage: Stage, reason: bytes, state: FlowState, ended: OutcomeState
) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "1", "0:2", "3! 1").make()
    await stage.zk.create(layout.flow_cancel_path(flow.name), reason)
    assert (await flow.until_ended()).state is state
    assert (await flow.outcome()).state is ended
    assert await flow.names("steps") == ["0:2", "3!"]
    assert sorted(await flow.names("failed")) == ["0", "1"]
    assert await stage.names(layout.TASKS) == await stage.names(layout.CANCEL) == []


async def test_a_flow_is_cancelled_also_by_a_request_that_cannot_be_read(stage: Stage) -> None:
    first = await stage.master()
    flow = await StagedFlow(stage, "0", "0:1").make()
    only_al = (Acl(int(Permission.ALL), Id("digest", "al:x")),)
    await stage.zk.create(layout.flow_cancel_path(flow.name), acl=only_al)
    await stage.stop(first)
    await stage.master()  # a listing shows it: the event of a znode that may not be read is withheld
    assert (await flow.until_ended()).state is FlowState.CANCELLED


async def test_a_flow_times_out_by_the_servers_clock(stage: Stage) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "0:1").make(timeout=0.3)
    assert (await flow.until_ended()).state is FlowState.EXPIRED
    assert await stage.data(layout.flow_cancel_path(flow.name)) == TIMED_OUT


async def test_a_flow_whose_steps_wait_for_nothing_that_exists_fails(stage: Stage) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "1 99").make()
    await flow.complete("0")
    header = await flow.until_ended()
    assert header.error is not None
    assert header.error.message == "1 step never started, because the flow has no such parents: 1"


async def test_missing_parents_are_dropped_in_several_transactions_if_they_are_many(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_starts, "MAX_EDGES", 3)
    await stage.master()
    roots = [str(number) for number in range(10)]
    flow = await StagedFlow(stage, *roots, " ".join(("10!", *roots))).make()
    await flow.complete("9")
    await flow.fail(*roots[:9])
    assert (await flow.until_started("10")).missing == tuple(roots[:9])
    await flow.complete("10")
    assert (await flow.until_ended()).state is FlowState.FAILED


# --- workers ---------------------------------------------------------------------------------------------------------


async def test_steps_go_past_workers_of_an_older_version(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.master()
    ran: list[str] = []
    old = StagedWorker(stage.hosts, {"m:f0": lambda: ran.append("old")}, WorkerSettings(TIMEOUT, slots=2, features=()))
    stage.start(old)
    await stage.until_registered(old)
    flow = await StagedFlow(stage, "0", "0:1").make()
    await until(lambda: "the steps of flows wait" in caplog.text, "the word")
    assert await flow.started() == {"0"}
    await stage.worker({f"m:f{step}": lambda: ran.append("new") for step in "01"})
    assert (await flow.until_ended()).state is FlowState.DONE
    assert ran == ["new", "new"]


async def test_a_lost_worker_costs_a_step_a_delivery_and_in_the_end_its_flow(stage: Stage) -> None:
    await stage.master(MasterSettings(session_timeout=TIMEOUT, max_deliveries=1))
    gate, began = threading.Event(), []

    def work() -> None:
        began.append(1)
        gate.wait(30)

    flow = await StagedFlow(stage, "0", "0:1").make()
    for losses in (1, 2):
        worker = await stage.worker({"m:f0": work})
        await until(lambda losses=losses: len(began) == losses, "it runs")  # type: ignore[misc]  # mypy does not know the default
        await stage.abandon(worker)
    header = await flow.until_ended(30)
    gate.set()
    assert header.error is not None
    assert header.error.message.startswith("1 step failed: 0 (m:f0): WorkerLost: 2 workers were lost")
    assert await stage.leftovers() == [layout.status_path(flow.name)]


# --- takeovers and lost connections ----------------------------------------------------------------------------------


async def test_a_takeover_reads_everything_anew(stage: Stage) -> None:
    primary = await stage.master()
    await stage.master(is_primary=False)
    flow = await StagedFlow(stage, "0", "1", "2", "0:3", "4 3 1", "5! 2", "5:6").make()
    await flow.complete("0")
    await flow.until_started("3")
    await stage.abandon(primary)
    await flow.complete("3", "1")
    await flow.fail("2")
    await flow.complete("4", "5", "6")
    assert (await flow.until_ended(30)).state is FlowState.FAILED


@pytest.mark.parametrize("lose", ["request", "reply"])
@pytest.mark.parametrize("what", ["start", "end", "cancel", "header"])
async def test_a_transaction_whose_answer_is_lost_takes_effect_once(
    namespace: str, stage: Stage, lose: str, what: str
) -> None:
    async with Proxy(namespace) as proxy:
        await stage.master(hosts=proxy.hosts)
        flow = StagedFlow(stage, "0", "0:1", "2 1")
        matches = {
            "start": multi_with(layout.flow_step_path(flow.name, "2")),
            "end": multi_with(layout.status_path(flow.name)),
            "cancel": lambda _opcode, body: layout.cancel_path(flow.task("1")).encode() in body,
            "header": lambda opcode, body: opcode == 22 and layout.flow_path(flow.name).encode() in body,
        }
        fault = getattr(proxy, f"lose_{lose}")(matches[what])
        await flow.make()
        await flow.complete("0")
        if what == "cancel":
            await flow.until_started("1")
            await stage.zk.create(layout.flow_cancel_path(flow.name))
            assert (await flow.until_ended(30)).state is FlowState.CANCELLED
        else:
            await flow.complete("1", "2")
            assert (await flow.until_ended(30)).state is FlowState.DONE
        assert fault.happened.is_set()
        assert await stage.leftovers() == [layout.status_path(flow.name)]


async def test_a_session_that_expires_in_the_middle_changes_nothing(stage: Stage) -> None:
    primary = await stage.master()
    flow = await StagedFlow(stage, "0", "0:1", "1:2").make()
    await flow.complete("0")
    await stage.expire(primary)
    await flow.complete("1")
    stage.break_connections()
    await flow.complete("2")
    assert (await flow.until_ended(30)).state is FlowState.DONE


async def test_a_cancel_that_comes_during_a_start_reaches_the_new_task(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        await stage.master(hosts=proxy.hosts)
        flow = await StagedFlow(stage, "0", "0:1").make()
        held = proxy.hold_request(multi_with(layout.flow_step_path(flow.name, "0:1")))
        await flow.complete("0")
        await held.happened.wait()
        await stage.zk.create(layout.flow_cancel_path(flow.name))
        held.go_on.set()
        assert (await flow.until_ended()).state is FlowState.CANCELLED
        assert await flow.names("failed") == ["1"]


async def test_a_retry_that_comes_during_the_end_keeps_the_flow_running(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        await stage.master(hosts=proxy.hosts)
        flow = await StagedFlow(stage, "0", "0:1").make()
        held = proxy.hold_request(multi_with(layout.status_path(flow.name)))
        await flow.fail("0")
        await held.happened.wait()
        again = await flow.retry("0")
        await flow.complete("0", task=again)
        held.go_on.set()
        await flow.complete("1")
        assert (await flow.until_ended()).state is FlowState.DONE


async def test_a_flow_that_runs_again_is_read_anew(stage: Stage) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "1", "2 0 1").make()
    await flow.fail("0")
    await flow.complete("1")
    assert (await flow.until_ended()).state is FlowState.FAILED
    again = await flow.reopen("0")
    await flow.complete("0", task=again)
    await flow.complete("2")
    assert (await flow.until_ended()).state is FlowState.DONE
    assert (await flow.outcome()).state is OutcomeState.DONE


async def test_two_masters_that_stand_in_start_each_step_once(stage: Stage) -> None:
    await stage.play_primary(REFERENCE)
    await stage.master(is_primary=False)
    await stage.master(is_primary=False)
    flow = await StagedFlow(stage, "0", "0:1", "2 1").make()
    await flow.complete("0", "1", "2")
    assert (await flow.until_ended(30)).state is FlowState.DONE


# --- what cannot be used ---------------------------------------------------------------------------------------------


async def test_a_broken_step_is_told_once_and_holds_up_nothing_else(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "0:1", "0:2", "0:3").make()
    await stage.zk.set(layout.flow_step_path(flow.name, "0:1"), b"garbage")
    await stage.zk.set(layout.flow_step_path(flow.name, "0:2"), flow.payload("0:3"))
    await flow.complete("0", "3")
    await until(lambda: caplog.text.count("cannot be used") == 2, "two words")
    await stage.zk.create(layout.flow_cancel_path(flow.name))
    assert (await flow.until_ended()).state is FlowState.CANCELLED


async def test_a_broken_header_is_told_once_and_other_flows_go_on(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master()
    broken = await StagedFlow(stage, "0", "0:1").make(header_data=b"{}")
    flow = await StagedFlow(stage, "0", "0:1").make()
    await broken.complete("0")
    await flow.complete("0", "1")
    assert (await flow.until_ended()).state is FlowState.DONE
    assert caplog.text.count(f"{broken.name}' of flows cannot be used") == 1
    assert await broken.started() == set()


async def test_a_cancelled_flow_whose_header_is_broken_runs_nothing_any_more(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master()
    flow = await StagedFlow(stage, "0", "1").make()
    header = await stage.data(layout.flow_path(flow.name))
    await stage.zk.set(layout.flow_path(flow.name), b"{}")
    await until(lambda: "of flows cannot be used" in caplog.text, "the header to be read")
    await stage.zk.create(layout.flow_cancel_path(flow.name))
    await stage.until_empty(layout.TASKS, layout.CANCEL)
    assert await flow.names("failed") == ["0", "1"]
    await stage.zk.set(layout.flow_path(flow.name), header)
    assert (await flow.until_ended()).state is FlowState.CANCELLED


async def test_steps_whose_tasks_are_nowhere_end_when_they_are_to_be_cancelled(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_stops, "_AGAIN_SECONDS", 0.3)
    await stage.master()
    flow = await StagedFlow(stage, "0", "1", "2", "0:3").make()
    await stage.zk.delete(layout.task_path(flow.task("0")))
    await stage.put(layout.cancel_path(flow.task("0")))
    await stage.until_empty(layout.CANCEL)
    assert await flow.names("failed") == ["0"]
    await stage.zk.delete(layout.task_path(flow.task("1")))
    await stage.zk.set(layout.task_path(flow.task("2")), b"garbage")
    await stage.zk.create(layout.flow_cancel_path(flow.name))
    assert (await flow.until_ended()).state is FlowState.CANCELLED
    assert await flow.names("failed") == ["0", "1", "2"]
    lost = decode_call(await stage.data(layout.flow_failed_path(flow.name, "2")))
    assert lost.error is not None
    assert lost.error.type == "TaskLost"
    await stage.until_empty(layout.CANCEL)


async def test_foreign_names_below_flows_are_left_alone(stage: Stage) -> None:
    await stage.master()
    await stage.put("/flows/x/running/y", "/flows/x/steps/z/0", "/flows/other")
    flow = await StagedFlow(stage, "0", "0:1").make()
    await flow.complete("0", "1")
    assert (await flow.until_ended()).state is FlowState.DONE
    assert await stage.exists("/flows/x/running/y")


async def test_a_thousand_steps_that_get_ready_at_once_all_start(stage: Stage) -> None:
    await stage.master()
    count = 1000
    flow = await StagedFlow(stage, "0", *(f"0:{number}" for number in range(1, count + 1))).make_large()
    await flow.complete("0")

    async def all_started() -> bool:
        return len(await stage.names(layout.TASKS)) == count

    await until(all_started, "all tasks")
    assert await flow.names("steps") == []
