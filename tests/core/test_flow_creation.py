"""The parts by which a flow is created."""

from __future__ import annotations

import msgspec
import pytest

from herdmaster.core import flow_creation as creation
from herdmaster.core import layout, transitions
from herdmaster.core.flow_creation import NewFlow, NewStep, entry_of
from herdmaster.core.flows import FlowHeader, FlowState, decode_header
from herdmaster.core.operations import CheckNode, CreateNode, FlowPart, NewTask, SetNode
from herdmaster.core.row import TransitionName
from herdmaster.core.transitions import Failure, Verdict

F = "flow-01h00000000000000000000000"
TASK = "task-01h0000000000000000000000{}.default.f"


def flow_of(*steps: NewStep) -> NewFlow:
    return NewFlow(F, FlowHeader(1, "report", 1, FlowState.BUILDING, len(steps)), steps)


def step(number: int, *parents: str, follows: bool = False, data: bytes = b"{}", mark: str = "") -> NewStep:
    entry, edges = entry_of(str(number), mark, parents, follows=follows)
    return NewStep(entry, TASK.format(f"{number:03d}"), data, edges)


@pytest.mark.parametrize(
    ("mark", "parents", "follows", "expected"),
    [
        ("", (), False, ("7", ())),
        ("", ("4",), True, ("4:7", ())),
        ("", ("4",), False, ("7", ("4",))),
        ("", ("4", "5"), True, ("7", ("4", "5"))),
        ("!", ("4",), True, ("7!", ("4",))),
        ("?", ("4", "5"), False, ("7?", ("4", "5"))),
    ],
)
def test_a_step_waits_under_its_only_parent_or_with_edges(
    mark: str, parents: tuple[str, ...], follows: bool, expected: tuple[str, tuple[str, ...]]
) -> None:
    assert entry_of("7", mark, parents, follows=follows) == expected


def test_a_small_flow_is_one_part_in_which_steps_without_parents_begin() -> None:
    flow = flow_of(step(0), step(1, "0", follows=True), step(2, "0", "1"))
    part = creation.whole(flow)
    assert part is not None
    made = {each.path: each.data for each in part.operations if isinstance(each, CreateNode)}

    assert len(made) == len(part.operations)
    assert decode_header(made[f"/flows/{F}"]).state is FlowState.RUNNING
    folders = [f"/flows/{F}/{name}" for name in ("steps", "results", "failed", "running")]
    assert all(folder in made for folder in folders)
    assert made[f"/flows/{F}/running/{flow.steps[0].task}"] == b"0"
    assert made[f"/tasks/{flow.steps[0].task}"] == b"{}"
    waiting = [f"/flows/{F}/steps/{name}" for name in ("0:1", "2", "2/0", "2/1")]
    assert [path for path in made if path.startswith(f"/flows/{F}/steps/")] == waiting


@pytest.mark.parametrize("large", [(3, 40 * 1024), (200, 1)], ids=["bytes", "number"])
def test_a_large_flow_is_built_in_parts_that_check_the_header(large: tuple[int, int]) -> None:
    count, size = large
    flow = flow_of(*(step(number, data=b"x" * size) for number in range(count)), step(999, *map(str, range(count))))
    assert creation.whole(flow) is None

    first, middle, last = creation.first(flow), list(creation.middle(flow)), creation.last(flow)
    header, *folders = first.operations
    assert isinstance(header, CreateNode)
    assert decode_header(header.data).state is FlowState.BUILDING
    assert [each.path for each in folders] == [f"/flows/{F}/{name}" for name in ("steps", "results", "failed")]
    assert len(middle) > 1
    made: list[str] = []
    for part in middle:
        check, *creations = part.operations
        assert check == CheckNode(f"/flows/{F}", 0)
        assert 0 < len(creations) <= creation.PART_OPERATIONS
        made += [each.path for each in creations]
    steps = [f"/flows/{F}/steps/{number}" for number in range(count)]
    assert made == [*steps, f"/flows/{F}/steps/999", *(f"/flows/{F}/steps/999/{number}" for number in range(count))]
    change, running = last.operations
    assert isinstance(change, SetNode)
    assert (change.path, change.version, decode_header(change.data).state) == (f"/flows/{F}", 0, FlowState.RUNNING)
    assert running == CreateNode(f"/flows/{F}/running", b"")
    assert len({part.name for part in (first, *middle, last)}) == len(middle) + 2


def test_a_refused_part_is_judged_by_its_row() -> None:
    flow = flow_of(step(0))
    (middle,) = creation.middle(flow)
    parts: list[NewTask | FlowPart] = [NewTask("task-1", b""), creation.first(flow), middle, creation.last(flow)]
    batch = transitions.submit("client-1", 1, 0, parts)

    def verdict(path: str, failure: Failure) -> Verdict:
        found = [index for index, each in enumerate(batch.operations) if each.path == path]
        return transitions.verdict(batch, found[0], failure)

    assert [batch.owners[index] for index in (0, 1, 2)] == [-1, -1, 0]
    assert verdict(f"/flows/{F}", Failure.NODE_EXISTS) is Verdict.KEY_TAKEN
    assert verdict(f"/flows/{F}", Failure.NO_NODE) is Verdict.FOLDER_MISSING
    assert verdict(f"/flows/{F}/steps/0", Failure.NO_NODE) is Verdict.FLOW_GONE
    assert verdict(layout.client_path("client-1"), Failure.BAD_VERSION) is Verdict.READ_JOURNAL
    assert verdict("/tasks/task-1", Failure.NODE_EXISTS) is Verdict.UNEXPECTED
    check = next(index for index, each in enumerate(batch.operations[2:], 2) if isinstance(each, CheckNode))
    assert transitions.verdict(batch, check, Failure.BAD_VERSION) is Verdict.FLOW_GONE
    assert batch.transition(check) is TransitionName.BUILD_FLOW


def test_a_child_flow_begins_only_while_its_parent_has_its_assignment() -> None:
    parent = "/assign/worker-01h00000000000000000000000/task-01h00000000000000000000001.default"
    flow = msgspec.structs.replace(flow_of(step(0)), parent=parent)
    whole = creation.whole(flow)
    assert whole is not None
    for part in (whole, creation.last(flow)):
        submission = transitions.submit("client-1", 31, 7, [part])
        assert submission.operations[2] == CheckNode(parent)
        assert transitions.verdict(submission, 2, Failure.NO_NODE) is Verdict.PARENT_GONE
