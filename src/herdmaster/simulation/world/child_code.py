"""Code of tasks that submits children, which are tasks and flows: notes the name of each in its task, and lets a client
submit it then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from herdmaster.core.children import NOTHING, assignment_of, key_of_child
from herdmaster.core.flow_creation import NewFlow
from herdmaster.core.transitions import NewTask
from herdmaster.errors import HerdError, NotSaved
from herdmaster.running.current import Running
from herdmaster.simulation.plan.flow_plans import PlannedFlow
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.world.once_code import Wait


class Submitter(Protocol):
    """A process of a client."""

    def new_child(self, job: Job) -> NewTask: ...

    def submit_child(self, job: Job, task: NewTask) -> None: ...

    def new_child_flow(self, plan: PlannedFlow, parent: str) -> NewFlow: ...

    def submit_child_flow(self, plan: PlannedFlow, flow: NewFlow) -> None: ...


class ChildCode:
    """Submits the children of jobs. `children` are by their parent's job; `find_client` returns the process of a
    client, None while it has none."""

    def __init__(
        self, children: Mapping[int, list[Job | PlannedFlow]], find_client: Callable[[str], Submitter | None]
    ) -> None:
        self._children = children
        self._find_client = find_client

    def run(self, index: int, running: Running) -> Wait:
        """Return the wait until all children are noted."""

        def wait(go_on: Callable[[bool], None]) -> None:
            self._note(running, list(self._children.get(index, ())), go_on)

        return wait

    def _note(self, running: Running, left: list[Job | PlannedFlow], go_on: Callable[[bool], None]) -> None:
        """Note one child after the other."""
        if not left:
            go_on(True)
            return
        child = left.pop(0)
        client = self._find_client(child.client)
        if client is None:
            self._note(running, left, go_on)
            return
        name, submit = _made(client, child, running.name)

        def answered(answer: msgspec.Raw | HerdError) -> None:
            if isinstance(answer, HerdError):
                go_on(False)
                return
            submit(assignment_of(running.name, bytes(answer)))
            self._note(running, left, go_on)

        try:
            running.save(key_of_child(name), NOTHING, answered)
        except NotSaved:
            go_on(False)


def _made(client: Submitter, child: Job | PlannedFlow, parent: str) -> tuple[str, Callable[[str | None], None]]:
    """Make a child. Return its name, and what submits it by the assignment of its parent."""
    if isinstance(child, PlannedFlow):
        flow = client.new_child_flow(child, parent)
        return flow.name, lambda path: client.submit_child_flow(child, msgspec.structs.replace(flow, parent=path))
    task = client.new_child(child)
    return task.name, lambda path: client.submit_child(child, msgspec.structs.replace(task, parent=path))
