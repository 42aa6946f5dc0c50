"""Code of tasks that submits children: notes the name of each in its task, and lets a client submit it then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from herdmaster.core.children import NOTHING, assignment_of, key_of_child
from herdmaster.core.transitions import NewTask
from herdmaster.errors import HerdError, NotSaved
from herdmaster.running.current import Running
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.world.once_code import Wait


class Submitter(Protocol):
    """A process of a client."""

    def new_child(self, job: Job) -> NewTask: ...

    def submit_child(self, job: Job, task: NewTask) -> None: ...


class ChildCode:
    """Submits the children of jobs. `children` are by their parent's job; `find_client` returns the process of a
    client, None while it has none."""

    def __init__(self, children: Mapping[int, list[Job]], find_client: Callable[[str], Submitter | None]) -> None:
        self._children = children
        self._find_client = find_client

    def run(self, index: int, running: Running) -> Wait:
        """Return the wait until all children are noted."""

        def wait(go_on: Callable[[bool], None]) -> None:
            self._note(running, list(self._children.get(index, ())), go_on)

        return wait

    def _note(self, running: Running, left: list[Job], go_on: Callable[[bool], None]) -> None:
        """Note one child after the other."""
        if not left:
            go_on(True)
            return
        job = left.pop(0)
        client = self._find_client(job.client)
        if client is None:
            self._note(running, left, go_on)
            return
        task = client.new_child(job)

        def answered(answer: msgspec.Raw | HerdError) -> None:
            if isinstance(answer, HerdError):
                go_on(False)
                return
            parent = assignment_of(running.name, bytes(answer))
            client.submit_child(job, msgspec.structs.replace(task, parent=parent))
            self._note(running, left, go_on)

        try:
            running.save(key_of_child(task.name), NOTHING, answered)
        except NotSaved:
            go_on(False)
