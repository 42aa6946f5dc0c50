"""The parts by which a client creates a flow: one transaction if the flow is small, several if it is large.

| part | creates |
|---|---|
| a small flow | header (`running`), folders, waiting steps, edges, `running`, tasks of steps without parents |
| the first of a large flow | header (`building`), folders |
| the middle | waiting steps with their edges; a step without parents waits without an edge |
| the last | sets the header to `running` at version 0, creates `running` |

A part that is under way when its flow is removed is refused: it checks the version of the header. What becomes ready by
the last part is started by the primary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.flow_scope import FOLLOWER_SIGN
from herdmaster.core.flows import FlowHeader, FlowState, encode_header
from herdmaster.core.operations import CheckNode, CreateNode, FlowPart, Operation, SetNode
from herdmaster.core.row import TransitionName

PART_BYTES: Final = 96 * 1024
PART_OPERATIONS: Final = 150
"""In one part. With the largest ACLs it fits a frame, too."""
_FOLDERS: Final = (layout.flow_steps_path, layout.flow_results_path, layout.flow_failed_path)
_BYTES_PER_OPERATION: Final = 64


class NewStep(msgspec.Struct, frozen=True, gc=False):
    """A step to create. `edges` are the parents that it waits for; a step without parents has the entry of its id."""

    entry: str
    task: str
    data: bytes
    edges: tuple[str, ...] = ()

    @property
    def is_root(self) -> bool:
        return not self.edges and FOLLOWER_SIGN not in self.entry


class NewFlow(msgspec.Struct, frozen=True):
    """A flow to create. `name` is that of this submission, and of the flow unless the flow has a key, which gives it a
    name: `keyed_name`. The state of the header does not matter. `parent` is as in `NewTask`."""

    name: str
    header: FlowHeader
    steps: tuple[NewStep, ...]
    keyed_name: str | None = None
    parent: str | None = None

    @property
    def flow(self) -> str:
        """The name of the flow."""
        return self.keyed_name or self.name


def entry_of(step: str, mark: str, parents: Sequence[str], *, follows: bool) -> tuple[str, tuple[str, ...]]:
    """Return the entry of a waiting step, and its edges. `follows`: its only parent is no `each`, so that it may wait
    for the parent's result without an edge."""
    if follows and len(parents) == 1 and not mark:
        return f"{parents[0]}{FOLLOWER_SIGN}{step}", ()
    return f"{step}{mark}", tuple(parents)


def whole(flow: NewFlow) -> FlowPart | None:
    """Return all of a flow as one part; None if it is too large."""
    running = layout.flow_running_path(flow.flow)
    waiting: list[Operation] = []
    starting: list[Operation] = [CreateNode(running, b"")]
    size = _BYTES_PER_OPERATION * 8
    for step in flow.steps:
        operations = _root(flow, step) if step.is_root else _waiting(flow, step)
        (starting if step.is_root else waiting).extend(operations)
        size += sum(map(_size, operations))
        if size > PART_BYTES or len(waiting) + len(starting) > PART_OPERATIONS:
            return None
    everything = (*_of_parent(flow), *_beginning(flow, FlowState.RUNNING), *waiting, *starting)
    return FlowPart(flow.name, TransitionName.SUBMIT_FLOW, everything)


def first(flow: NewFlow) -> FlowPart:
    """Return the part that has to be accepted before the others are sent."""
    return FlowPart(flow.name, TransitionName.SUBMIT_FLOW, tuple(_beginning(flow, FlowState.BUILDING)))


def middle(flow: NewFlow) -> Iterator[FlowPart]:
    """Yield the parts that may be sent together. All of them have to be accepted before the last one is sent."""
    check = CheckNode(layout.flow_path(flow.flow), 0)
    operations: list[Operation] = []
    size = number = 0
    for step in flow.steps:
        for operation in _waiting(flow, step):
            if operations and (size + _size(operation) > PART_BYTES or len(operations) >= PART_OPERATIONS):
                yield FlowPart(f"{flow.name}/{number}", TransitionName.BUILD_FLOW, (check, *operations))
                operations, size, number = [], 0, number + 1
            operations.append(operation)
            size += _size(operation)
    if operations:
        yield FlowPart(f"{flow.name}/{number}", TransitionName.BUILD_FLOW, (check, *operations))


def last(flow: NewFlow) -> FlowPart:
    """Return the part by which the flow begins to run."""
    change = SetNode(layout.flow_path(flow.flow), _header(flow, FlowState.RUNNING), 0)
    running = CreateNode(layout.flow_running_path(flow.flow), b"")
    return FlowPart(f"{flow.name}/last", TransitionName.BEGIN_FLOW, (*_of_parent(flow), change, running))


def _of_parent(flow: NewFlow) -> tuple[Operation, ...]:
    """A child flow does not begin to run when its parent has ended."""
    return () if flow.parent is None else (CheckNode(flow.parent),)


def _beginning(flow: NewFlow, state: FlowState) -> Iterator[CreateNode]:
    yield CreateNode(layout.flow_path(flow.flow), _header(flow, state))
    for folder in _FOLDERS:
        yield CreateNode(folder(flow.flow), b"")


def _header(flow: NewFlow, state: FlowState) -> bytes:
    return encode_header(msgspec.structs.replace(flow.header, state=state))


def _waiting(flow: NewFlow, step: NewStep) -> list[Operation]:
    found: list[Operation] = [CreateNode(layout.flow_step_path(flow.flow, step.entry), step.data)]
    found += (CreateNode(layout.flow_edge_path(flow.flow, step.entry, parent), b"") for parent in step.edges)
    return found


def _root(flow: NewFlow, step: NewStep) -> list[Operation]:
    running = CreateNode(layout.flow_running_path(flow.flow, step.task), step.entry.encode())
    return [running, CreateNode(layout.task_path(step.task), step.data)]


def _size(operation: Operation) -> int:
    data = len(operation.data) if isinstance(operation, CreateNode) else 0
    return _BYTES_PER_OPERATION + len(operation.path) + data
