"""What creates the steps that a running step adds."""

from __future__ import annotations

import msgspec
import pytest

from herdmaster.core.added_steps import MAX_ADDED, MAX_BYTES, AddedStep, check_room, create_added
from herdmaster.core.flows import Each, FlowStep
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call
from herdmaster.errors import ConfigurationError

F = "flow-01h00000000000000000000000"


def added(step: str, *parents: str, mark: str = "", each: bool = False) -> AddedStep:
    task = f"task-{step}"
    makes = Each(msgspec.Raw(b"{}"), "default", 5) if each else None
    flow = FlowStep(F, step, "m:f", task, each=makes)
    return AddedStep(step, task, encode_call(Call(1, "m:f", *encode_arguments((), {}), flow=flow)), parents, mark)


def paths(*steps: AddedStep) -> list[str]:
    return [node.path.removeprefix(f"/flows/{F}") for node in create_added(F, steps)]


def test_a_step_that_waits_for_no_other_is_a_task_at_once() -> None:
    (task, running) = create_added(F, [added("3+0")])
    assert (task.path, running.path, running.data) == ("/tasks/task-3+0", f"/flows/{F}/running/task-3+0", b"3+0")
    assert decode_call(task.data).flow == FlowStep(F, "3+0", "m:f", "task-3+0")


def test_a_step_with_one_ordinary_parent_follows_it_and_others_have_edges() -> None:
    steps = [
        added("3+0"),
        added("3+1", "3+0"),
        added("3+2", "3+0", "3+1"),
        added("3+3", "3+1", mark="!"),
        added("3+4", "3+0", mark="?"),
    ]
    assert paths(*steps) == [
        "/tasks/task-3+0", "/running/task-3+0",
        "/steps/3+0:3+1",
        "/steps/3+2", "/steps/3+2/3+0", "/steps/3+2/3+1",
        "/steps/3+3!", "/steps/3+3!/3+1",
        "/steps/3+4?", "/steps/3+4?/3+0",
    ]  # fmt: skip
    joins = {node.path.rpartition("/")[2]: call.flow.joins for node in create_added(F, steps)
             if node.data.startswith(b"{") and (call := decode_call(node.data)).flow is not None}  # fmt: skip
    assert joins == {
        "task-3+0": ("3+2", "3+4?"), "3+0:3+1": ("3+2", "3+3!"), "3+2": (), "3+3!": (), "3+4?": (),
    }  # fmt: skip


def test_what_waits_for_items_has_an_edge_also_for_a_single_parent() -> None:
    assert paths(added("3+0", each=True), added("3+1", "3+0"))[2:] == ["/steps/3+1", "/steps/3+1/3+0"]


def test_each_step_is_signed_for_its_own_task() -> None:
    created = create_added(F, [added("3+0"), added("3+1", "3+0")], lambda task, data: task.encode() + data)
    assert [node.data.partition(b"{")[0] for node in created] == [b"task-3+0", b"3+0", b"task-3+1"]


def test_there_is_room_for_a_limited_number_of_steps_and_bytes() -> None:
    check_room(MAX_ADDED, MAX_BYTES)
    for count, size in ((MAX_ADDED + 1, 0), (1, MAX_BYTES + 1)):
        with pytest.raises(ConfigurationError, match="at most 1000 steps of 384 KiB"):
            check_room(count, size)


def test_the_size_covers_what_the_znodes_take() -> None:
    steps = [added("3+0"), added("3+1", "3+0"), added("3+2", "3+0", "3+1", mark="?")]
    size = sum(64 + len(node.path) + len(node.data) for node in create_added(F, steps))
    assert size <= sum(step.size for step in steps)
