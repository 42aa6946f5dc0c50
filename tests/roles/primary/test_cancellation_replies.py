"""Cancelling, reply by reply: where a task that is to end is looked for again, and when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.children import encode_parent
from herdmaster.core.flow_picture import FlowPicture
from herdmaster.core.names import call_name, flow_name
from herdmaster.core.whereabouts import Assigned, Delayed, Waiting, Whereabouts
from herdmaster.roles.primary.cancellation import Cancellation
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper import errors
from tests.roles.primary.scripted import ScriptedClient, W

pytestmark = pytest.mark.fallback("SET_ASIDE_SECONDS", "TRY_LATER_SECONDS")  # the clock is the test's

TASK, DUE = "task-a", 1_700_000_000_000
CALL = call_name(f"0{1:025d}")
FLOW = flow_name(f"0{1:025d}")


class Pictures:
    def __init__(self, where: Whereabouts | None) -> None:
        self.where = where
        self.are_current = True
        self.others: dict[str, Whereabouts] = {}

    def where_is(self, task: str) -> Whereabouts | None:
        return self.others.get(task, self.where)


class Rig:
    """One request to cancel a task, which is there."""

    def __init__(self, where: Whereabouts | None, task: str = TASK) -> None:
        self.client = ScriptedClient()
        self.client.now = 100.0
        self.pictures = Pictures(where)
        self.wakes = 0
        client: Any = self.client
        pictures: Any = self.pictures
        report = PrimaryLog(System(), lambda _end: None)
        self.part = Cancellation(client, pictures, FlowPicture(), report, self._wake)
        self.part._requests.add(task)
        self.part._requests.complete()

    def _wake(self) -> None:
        self.wakes += 1

    async def step(self) -> list[str]:
        self.part.step()
        await asyncio.sleep(0)
        return self.client.pending()

    async def is_tried_again_after(self, seconds: float) -> bool:
        """Say whether the next step that does something is at that time."""
        self.client.calls.clear()
        if seconds:
            self.client.now += seconds - 0.01
            assert await self.step() == []
            assert self.part.next_wakeup() == pytest.approx(self.client.now + 0.01)
            self.client.now += 0.01
        return await self.step() != []


@pytest.mark.parametrize(
    ("where", "path"),
    [
        (Waiting(TASK), layout.task_path(TASK)),
        (Delayed(DUE, TASK), layout.delayed_path(DUE, TASK)),
        (Assigned(TASK, W), layout.assignment_path(W, TASK)),
    ],
)
async def test_a_raw_task_is_ended_where_it_is_unread(where: Whereabouts, path: str) -> None:
    rig = Rig(where)

    assert await rig.step() == ["commit"]
    assert ("delete", path) in rig.client.answer("commit")


async def test_the_payload_of_a_call_is_read_first() -> None:
    rig = Rig(Waiting(CALL), CALL)
    assert await rig.step() == ["read"]
    assert rig.client.answer_read(b"payload") == (layout.task_path(CALL),)
    await asyncio.sleep(0)
    assert ("create", layout.status_path(CALL)) in rig.client.answer("commit")


async def test_a_request_that_was_taken_back_is_tried_again_after_a_second() -> None:
    rig = Rig(Waiting(TASK))
    await rig.step()
    paths = [path for _, path in rig.client.calls[0][1]]
    rig.client.refuse(paths.index(layout.cancel_path(TASK)), errors.NoNode("cancel"))

    assert await rig.is_tried_again_after(1.0)


@pytest.mark.parametrize(("has_moved", "seconds"), [(True, 0.0), (False, 1.0)])
async def test_a_task_that_has_moved_on_is_looked_for_at_once_if_the_pictures_show_where(
    has_moved: bool, seconds: float
) -> None:
    rig = Rig(Waiting(TASK))
    await rig.step()
    paths = [path for _, path in rig.client.calls[0][1]]
    if has_moved:
        rig.pictures.where = Assigned(TASK, W)
    wakes = rig.wakes
    rig.client.refuse(paths.index(layout.task_path(TASK)), errors.NoNode("task"))

    assert rig.wakes == wakes + 1
    assert await rig.is_tried_again_after(seconds)


async def test_the_request_for_a_task_that_is_nowhere_goes_when_the_server_has_been_asked() -> None:
    rig = Rig(None)
    assert await rig.step() == ["get"]
    assert rig.client.answer("get", (b"", None)) == layout.cancel_path(TASK)
    await asyncio.sleep(0)

    assert rig.client.answer("commit") == (("delete", layout.cancel_path(TASK)),)


@pytest.mark.parametrize("change", ["it came", "the pictures are old"])
async def test_a_task_that_comes_while_the_server_is_asked_is_not_taken_for_ended(change: str) -> None:
    rig = Rig(None)
    await rig.step()
    if change == "it came":
        rig.pictures.where = Waiting(TASK)
    else:
        rig.pictures.are_current = False
    rig.client.answer("get", (b"", None))
    await asyncio.sleep(0)
    assert rig.client.pending() == []

    rig.pictures.are_current = True
    assert await rig.is_tried_again_after(0.0)


async def test_the_server_is_asked_again_at_once_if_the_connection_was_lost() -> None:
    rig = Rig(None)
    await rig.step()
    rig.client.answer("get", None, errors.ConnectionLoss())

    assert await rig.is_tried_again_after(0.0)
    assert rig.client.pending() == ["get"]


STEP = call_name(f"0{3:025d}", step=True)


class Flows:
    """A picture of flows in which the step runs, or has ended."""

    flow: str | None = FLOW

    def flow_of(self, _task: str) -> str | None:
        return self.flow


async def test_a_step_whose_payload_may_not_be_read_is_ended_in_its_flow_and_then_dropped() -> None:
    rig = Rig(Assigned(STEP, W), STEP)
    flows: Any = Flows()
    rig.part._flows = flows
    await rig.step()
    rig.client.answer_read(errors.NoAuth("payload"))
    await asyncio.sleep(0)
    assert rig.client.answer_read(b"7!") == (layout.flow_running_path(FLOW, STEP),)
    await asyncio.sleep(0)
    assert rig.client.answer("commit") == (
        ("create", f"{layout.flow_failed_path(FLOW)}/7"),
        ("delete", layout.flow_running_path(FLOW, STEP)),
    )

    flows.flow = None
    await rig.step()
    rig.client.answer_read(errors.NoAuth("payload"))
    await asyncio.sleep(0)
    assert rig.client.answer("commit") == (("delete", layout.assignment_path(W, STEP)),)


PARENT = call_name(f"0{2:025d}")
OF_PARENT = (encode_parent(W, PARENT), None)


async def test_the_request_for_a_child_is_kept_until_its_parent_is_gone() -> None:
    rig = Rig(None)
    rig.pictures.others[PARENT] = Assigned(PARENT, W)
    await rig.step()
    rig.client.answer("get", OF_PARENT)
    assert await rig.is_tried_again_after(1.0)

    rig.pictures.others[PARENT] = Waiting(PARENT)
    rig.client.answer("get", OF_PARENT)
    await asyncio.sleep(0)
    assert rig.client.answer("commit") == (("delete", layout.cancel_path(TASK)),)


async def test_a_child_that_came_meanwhile_is_cancelled() -> None:
    rig = Rig(None)
    rig.pictures.others[PARENT] = Assigned(PARENT, W)
    await rig.step()
    rig.client.answer("get", OF_PARENT)
    rig.pictures.where = Waiting(TASK)
    rig.client.now += 1.0
    await rig.step()
    assert ("delete", layout.task_path(TASK)) in rig.client.answer("commit")


@pytest.mark.parametrize("error", [None, errors.NodeExists("there")])
async def test_a_request_for_a_flow_is_passed_on_to_the_flow(error: errors.ServerError | None) -> None:
    rig = Rig(None, FLOW)
    await rig.step()
    rig.client.answer("get", OF_PARENT)
    cancelling = (("check", layout.flow_running_path(FLOW)), ("create", layout.flow_cancel_path(FLOW)))
    if error is None:
        assert rig.client.answer("commit") == cancelling
    else:
        rig.client.refuse(1, error)
    await asyncio.sleep(0)
    assert rig.client.answer("commit") == (("delete", layout.cancel_path(FLOW)),)


@pytest.mark.parametrize("may_come", [True, False])
async def test_the_request_for_a_flow_that_does_not_run_is_kept_while_its_parent_may_submit_it(may_come: bool) -> None:
    rig = Rig(None, FLOW)
    rig.pictures.others[PARENT] = Assigned(PARENT, W) if may_come else Assigned(PARENT, f"{W}2")
    await rig.step()
    rig.client.answer("get", OF_PARENT)
    rig.client.refuse(0, errors.NoNode("running"))
    await asyncio.sleep(0)
    if may_come:
        assert await rig.is_tried_again_after(1.0)
    else:
        assert rig.client.answer("commit") == (("delete", layout.cancel_path(FLOW)),)


async def test_a_request_for_a_flow_that_was_refused_is_sent_again() -> None:
    rig = Rig(None, FLOW)
    await rig.step()
    rig.client.answer("get", (b"", None))
    rig.client.answer("commit", None, errors.ConnectionLoss())
    assert await rig.is_tried_again_after(1.0)
