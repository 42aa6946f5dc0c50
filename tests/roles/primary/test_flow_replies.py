"""Flows, reply by reply: what changes while a header or a payload is read, and what is asked for again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.flow_graph import step_of
from herdmaster.core.flow_scope import CANCEL, FAILED, PARTS, RESULTS, RUNNING, STEPS
from herdmaster.core.flows import FlowHeader, FlowState, FlowStep, OnFailure, encode_header, step_task
from herdmaster.core.operations import CheckNode, CreateNode, Move
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call
from herdmaster.roles.primary import flow_stops
from herdmaster.roles.primary.flow_ends import FlowEnds
from herdmaster.roles.primary.flow_feed import FlowFeed
from herdmaster.roles.primary.flow_starts import FlowStarts
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.part import SET_ASIDE_SECONDS, TRY_LATER_SECONDS
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import Stat
from tests.roles.primary.scripted import STAT, FakeServerClock, ScriptedClient

pytestmark = pytest.mark.fallback("SET_ASIDE_SECONDS", "TRY_LATER_SECONDS")  # the clock is the test's

NOW = 1_700_000_000_000
FLOW = "flow-01arz3ndektsv4rrffq69g5fav"
PATH = layout.flow_path(FLOW)
GONE = errors.NoNode("it is not there")


def task(step: str) -> str:
    return step_task(NOW, FLOW, step, "default", 5)


def payload(entry: str, *parents: str) -> bytes:
    step = FlowStep(FLOW, step_of(entry), "m:f", task(step_of(entry)), after=parents)
    return encode_call(Call(1, "m:f", *encode_arguments((), {}), flow=step))


def stat(version: int, *, created: int = NOW, written: int = NOW) -> Stat:
    return msgspec.structs.replace(STAT, version=version, ctime=created, mtime=written)


class Rig:
    """A flow that was made under the eyes of this primary. Its header was not read yet."""

    def __init__(self, **header: Any) -> None:
        self.client = ScriptedClient()
        self.asked: set[str] = set()  # there is a request to cancel them
        self.server_clock = FakeServerClock()
        self.server_clock.time = NOW
        self.header = FlowHeader(1, "report", NOW, FlowState.RUNNING, 9, **header)
        self.report = PrimaryLog(System(), lambda _end: None)
        client: Any = self.client
        clock: Any = self.server_clock
        self.feed = FlowFeed(client, self.report, lambda: None)
        self.flows = self.feed.flows
        self.ends = FlowEnds(client, self.feed, clock, self.report, lambda: None, is_asked=self.asked.__contains__)
        self.starts = FlowStarts(client, self.feed, clock, self.report, lambda: None)
        self.flows.replace(layout.FLOWS, ())
        self.flows.add(layout.FLOWS, FLOW)
        for part in PARTS:
            self.flows.add(PATH, part)

    def add(self, part: str, *names: str) -> None:
        for name in names:
            entry, *edges = name.split()
            self.flows.add(f"{PATH}/{part}", entry)
            for parent in edges:
                self.flows.add(f"{PATH}/{part}/{entry}", parent)

    def remove(self, part: str, name: str) -> None:
        self.flows.remove(f"{PATH}/{part}", name)

    def answer_header(self, version: int = 0, **times: int) -> None:
        paths = next(paths for name, paths, _ in self.client.calls if name == "read")
        assert paths[0] == PATH
        self.client.answer("read", [(encode_header(self.header), stat(version, **times)), *[GONE] * (len(paths) - 1)])

    def read_header(self, version: int = 0, **times: int) -> None:
        self.ends.step()
        self.answer_header(version, **times)

    async def sent(self) -> list[str]:
        await asyncio.sleep(0)  # moves are gathered for one turn of the loop
        return self.client.pending()


async def test_a_flow_is_judged_by_what_has_happened_while_its_header_was_read() -> None:
    rig = Rig()
    rig.add(STEPS, "1! 0")
    rig.add(RUNNING, task("0"))
    rig.ends.step()
    rig.add(FAILED, "0")
    rig.remove(RUNNING, task("0"))
    rig.answer_header()
    assert await rig.sent() == [], "step 1 is to run"
    rig.starts.step()
    assert rig.client.pending() == ["read"]


async def test_a_header_that_stops_its_flow_does_not_end_it_before_the_steps_for_failures() -> None:
    rig = Rig(on_failure=OnFailure.STOP)
    rig.add(STEPS, "2 5", "1! 2")
    rig.add(FAILED, "0")
    rig.read_header()
    assert await rig.sent() == [], "step 2 will not start, so step 1 is to run"
    rig.starts.step()
    assert rig.client.pending() == ["read"]


async def test_a_flow_times_out_from_the_time_when_its_header_was_written() -> None:
    rig = Rig(timeout=10.0)
    rig.add(RUNNING, task("0"))
    rig.read_header(created=NOW - 60_000, written=NOW)
    rig.server_clock.time = NOW + 9_999
    rig.ends.step()
    assert await rig.sent() == []
    rig.server_clock.time = NOW + 10_000
    rig.ends.step()
    assert await rig.sent() == ["commit"]
    assert ("create", layout.flow_cancel_path(FLOW)) in rig.client.answer("commit")


async def test_a_time_limit_whose_request_was_refused_is_tried_again_later() -> None:
    rig = Rig(timeout=1.0)
    rig.add(RUNNING, task("0"))
    rig.read_header()
    rig.server_clock.time = NOW + 1_000
    rig.ends.step()
    assert await rig.sent() == ["commit"]
    rig.client.refuse(1, errors.NoAuth("no"))
    rig.client.now += SET_ASIDE_SECONDS
    rig.server_clock.time += int(SET_ASIDE_SECONDS * 1000)
    rig.flows.release_postponed(rig.client.now)
    rig.ends.step()
    while "read" in rig.client.pending():
        rig.answer_header()
        rig.ends.step()
    assert await rig.sent() == ["commit"]


async def test_the_time_limit_of_a_flow_that_is_cancelled_asks_for_nothing() -> None:
    rig = Rig(timeout=1.0)
    rig.add(RUNNING, "foreign")
    rig.read_header()
    rig.flows.add(PATH, CANCEL)
    rig.server_clock.time = NOW + 5_000
    rig.ends.step()
    assert await rig.sent() == []
    assert rig.ends.next_wakeup() == flow_stops._AGAIN_SECONDS  # of the requests, and of no time limit


async def test_a_flow_that_is_retried_has_started_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, told = Rig(), Counter[str]()
    monkeypatch.setattr(rig.report.flows, "started", lambda name: told.update([name]))
    rig.add(RUNNING, task("0"))
    rig.read_header()
    rig.flows.change(FLOW)
    rig.read_header(1)
    assert told == {"report": 1}


async def test_an_end_that_was_refused_is_not_tried_again_by_the_header_that_was_kept() -> None:
    rig = Rig()
    rig.add(RUNNING, task("0"))
    rig.read_header()
    rig.remove(RUNNING, task("0"))
    rig.ends.step()
    assert await rig.sent() == ["commit"]
    rig.client.refuse(0, errors.BadVersion("set by hand, and its event is withheld"))
    rig.client.now += TRY_LATER_SECONDS
    rig.flows.release_postponed(rig.client.now)
    rig.read_header(1)
    assert await rig.sent() == ["commit"]


# --- starts ----------------------------------------------------------------------------------------------------------


async def test_a_step_does_not_start_in_a_flow_that_was_cancelled_while_its_payload_was_read() -> None:
    rig = Rig()
    rig.add(STEPS, "1")
    rig.read_header()
    rig.starts.step()
    rig.flows.add(PATH, CANCEL)
    rig.client.answer_read(payload("1"))
    assert await rig.sent() == []


async def test_a_step_without_its_parents_starts_at_the_version_that_was_read_and_is_told_which_items_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, given = Rig(), list[Move]()
    rig.add(RESULTS, "0", "0.1")
    rig.add(FAILED, "0.2", "2")
    rig.add(STEPS, "1? 2")  # the edge of 0.2 was dropped before
    rig.read_header(7)
    rig.starts.step()
    monkeypatch.setattr(rig.starts.gathering, "add", given.append)
    rig.client.answer_read(payload("1?", "0", "2"))
    ((check, _, creation, *_),) = [move.operations for move in given]
    assert check == CheckNode(PATH, 7)
    assert isinstance(creation, CreateNode)
    assert decode_call(creation.data).missing == ("0.2", "2")


# --- stops -----------------------------------------------------------------------------------------------------------


async def test_a_stopped_flow_asks_on_after_a_marked_step_that_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_stops, "_MAX_ASKED", 1)
    rig = Rig(on_failure=OnFailure.STOP)
    rig.add(RUNNING, *sorted(map(task, "13")))
    rig.add(FAILED, "0")
    rig.read_header()
    for entry in (b"1!", b"3"):
        rig.ends.step()
        rig.client.answer_read(entry)
    await asyncio.sleep(0)
    assert rig.client.pending() == ["commit"]


async def cancel(rig: Rig, *steps: str) -> None:
    """Let steps run in a flow that is to be cancelled."""
    rig.add(RUNNING, *map(task, steps))
    rig.read_header()
    rig.flows.add(PATH, CANCEL)
    await stop(rig)


async def stop(rig: Rig) -> None:
    rig.ends.step()
    await asyncio.sleep(0)


def requests(*steps: str) -> tuple[tuple[str, str], ...]:
    return tuple(("create", layout.cancel_path(task(step))) for step in steps)


async def test_a_request_that_was_refused_is_made_again() -> None:
    rig = Rig()
    await cancel(rig, "0", "1")
    assert rig.client.refuse(0, GONE) == requests("1", "0")
    await stop(rig)
    assert rig.client.pending() == []
    rig.client.now += TRY_LATER_SECONDS
    await stop(rig)
    assert rig.client.answer("commit") == requests("1", "0")
    rig.client.now += TRY_LATER_SECONDS
    await stop(rig)
    assert rig.client.pending() == []


async def test_many_requests_are_made_in_one_transaction_and_the_newest_tasks_are_asked_first() -> None:
    rig = Rig()
    steps = [f"{index}" for index in range(1001)]
    await cancel(rig, *steps)
    sent = [path for _, path, _ in rig.client.calls]
    steps.reverse()
    assert sent == [requests(*steps[start : start + 200]) for start in range(0, 1000, 200)]
    rig.client.answer("commit")
    await stop(rig)
    assert rig.client.calls.pop()[1] == requests("0")


async def test_requests_that_are_there_are_left_out() -> None:
    rig = Rig()
    rig.asked.add(task("1"))
    await cancel(rig, "5", "4", "3", "2", "1", "0")
    assert rig.client.refuse(1, errors.NodeExists()) == requests("0", "2", "3", "4", "5")
    assert rig.client.refuse(3, errors.NodeExists()) == requests("0", "3", "4", "5")
    assert [rig.client.answer("commit") for _ in "034"] == [requests("0"), requests("3"), requests("4")]
    assert rig.client.pending() == []


async def test_a_step_that_is_retried_in_a_stopped_flow_is_not_asked_to_end() -> None:
    rig = Rig(on_failure=OnFailure.STOP)
    rig.add(RUNNING, "foreign")
    rig.add(FAILED, "0")
    rig.read_header()
    rig.ends.step()
    assert rig.client.pending() == []
    rig.flows.change(FLOW)  # the events of a retry, in their order
    rig.add(RUNNING, task("0"))
    rig.ends.step()
    assert rig.client.pending() == ["read"], "of the header"
    rig.remove(FAILED, "0")
    rig.answer_header(1)
    rig.ends.step()
    assert rig.client.pending() == []
