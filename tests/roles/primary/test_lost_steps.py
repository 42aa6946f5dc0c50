"""Steps whose tasks are nowhere fail after two looks, and no step that lives does."""

from __future__ import annotations

from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.flow_picture import FlowPicture
from herdmaster.core.flows import FlowState
from herdmaster.core.names import flow_name
from herdmaster.core.payload import decode_call
from herdmaster.core.whereabouts import Assigned, Delayed, Waiting, Whereabouts
from herdmaster.roles.primary import lost_steps
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.lost_steps import LostSteps
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper import errors
from tests.roles.primary.flow_stage import StagedFlow
from tests.roles.primary.scripted import STAT, ScriptedClient, W
from tests.roles.stage import TIMEOUT, Stage, until

SETTINGS = MasterSettings(session_timeout=TIMEOUT, recount_seconds=0.1)
FLOW = flow_name(f"0{1:025d}")
TASK = f"task-0{1:025d}.default.f"
SECONDS = 60.0


class Pictures:
    def __init__(self) -> None:
        self.where: Whereabouts | None = None
        self.are_current = True

    def where_is(self, _task: str) -> Whereabouts | None:
        return self.where


class Rig:
    """A flow of which one step runs, by the name of its task."""

    def __init__(self, task: str = TASK) -> None:
        self.client = ScriptedClient()
        self.pictures = Pictures()
        self.flows = FlowPicture()
        client: Any = self.client
        pictures: Any = self.pictures
        report = PrimaryLog(System(), lambda _end: None)
        self.part = LostSteps(client, pictures, self.flows, report, SECONDS)
        self.list_flows(task)

    def list_flows(self, task: str = TASK) -> None:
        path = layout.flow_path(FLOW)
        self.flows.replace(layout.FLOWS, [FLOW])
        self.flows.replace(path, ["steps", "running", "results", "failed"])
        for folder, names in (("steps", []), ("running", [task]), ("results", []), ("failed", [])):
            self.flows.replace(f"{path}/{folder}", names)

    def look(self) -> list[str]:
        self.client.now += SECONDS
        self.part.step()
        return self.client.pending()


def test_a_step_is_lost_when_two_looks_and_a_request_have_not_found_its_task() -> None:
    rig = Rig()
    assert rig.look() == []
    rig.part.step()  # woken for another reason
    assert rig.look() == ["exists"]
    assert rig.client.answer("exists") == layout.task_path(TASK)
    assert rig.client.answer_read(b"0") == (layout.flow_running_path(FLOW, TASK),)
    assert rig.client.pending() == ["commit"]
    rig.client.refuse(1, errors.NoNode(layout.flow_running_path(FLOW, TASK)))
    assert rig.look() == ["exists"]


@pytest.mark.parametrize("where", [Waiting(TASK), Assigned(TASK, W), Delayed(1, TASK)])
def test_a_step_whose_task_is_somewhere_is_not_lost(where: Whereabouts) -> None:
    rig = Rig()
    rig.pictures.where = where
    assert rig.look() == []
    rig.pictures.where = None
    assert rig.look() == []
    assert rig.look() == ["exists"]
    rig.pictures.where = where
    rig.client.answer("exists")
    assert rig.client.pending() == []


@pytest.mark.parametrize(
    ("stat", "error"), [(STAT, None), (None, errors.NoAuth("/tasks/T")), (None, errors.ConnectionLoss("cut"))]
)
def test_a_step_whose_task_the_server_may_have_is_not_lost(stat: object, error: Exception | None) -> None:
    rig = Rig()
    rig.look()
    rig.look()
    rig.client.answer("exists", stat, error)
    assert rig.client.pending() == []


def test_a_step_that_has_ended_meanwhile_is_not_lost() -> None:
    rig = Rig()
    rig.look()
    rig.look()
    rig.flows.remove(f"{layout.flow_path(FLOW)}/running", TASK)
    rig.client.answer("exists")
    assert rig.client.pending() == []


def test_an_interruption_makes_the_looks_begin_again() -> None:
    rig = Rig()
    rig.look()
    rig.pictures.are_current = False
    assert rig.look() == []
    rig.pictures.are_current = True
    assert rig.look() == []
    assert rig.look() == ["exists"]


@pytest.mark.parametrize("name", ["x", f"task-0{1:025d}.default", "task-0000000001"])
def test_a_name_that_is_not_that_of_a_step_is_left_alone(name: str) -> None:
    rig = Rig(name)
    assert (rig.look(), rig.look()) == ([], [])


def test_running_data_that_name_no_step_are_left_alone() -> None:
    rig = Rig()
    rig.look()
    rig.look()
    rig.client.answer("exists")
    rig.client.answer_read(b"?")
    assert rig.client.pending() == []


def test_without_flows_there_is_nothing_to_wake_up_for() -> None:
    rig = Rig()
    assert rig.part.next_wakeup() == SECONDS
    rig.flows.interrupt()
    assert rig.part.next_wakeup() is None
    assert rig.look() == []


@pytest.mark.long
async def test_a_step_whose_task_was_deleted_fails_and_its_flow_goes_on_to_its_end(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master(SETTINGS)
    flow = await StagedFlow(stage, "0", "1", "0:2", "3! 0").make()
    await stage.zk.delete(layout.task_path(flow.task("0")))
    assert (await flow.until_started("3")).missing == ("0",)
    lost = decode_call(await stage.data(layout.flow_failed_path(flow.name, "0")))
    assert lost.error is not None
    assert lost.error.type == "TaskLost"
    await flow.complete("1", "3")
    assert (await flow.until_ended()).state is FlowState.FAILED
    assert f"refused {flow.task('0')}: " in caplog.text
    assert await stage.leftovers() == [layout.status_path(flow.name)]


@pytest.mark.long
async def test_a_large_flow_is_looked_at_in_parts(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_steps, "_AT_ONCE", 2)
    await stage.master(SETTINGS)
    flow = await StagedFlow(stage, *map(str, range(9))).make()
    for step in ("0", "4", "8"):
        await stage.zk.delete(layout.task_path(flow.task(step)))

    async def are_lost() -> bool:
        return await flow.names("failed") == ["0", "4", "8"]

    await until(are_lost, "three lost steps")
    assert len(await flow.names("running")) == 6
