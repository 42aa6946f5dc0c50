"""What `fn.step(...)` does in task code: it adds to the flow of the running step."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from herdmaster.api.flow_order import Context, write_step
from herdmaster.api.step import Graph, StepNode
from herdmaster.core.added_steps import AddedStep
from herdmaster.core.names import ulid_time_ms
from herdmaster.errors import ConfigurationError
from herdmaster.running.added_steps import AddedSteps, added_now
from herdmaster.running.current import running_now

if TYPE_CHECKING:
    from herdmaster.api.herd_core import HerdCore

_lock: Final = threading.Lock()


def graph_of_task(herd: HerdCore) -> Graph | None:
    """Return what collects the steps that the running step adds; None outside of tasks. Raises ConfigurationError in a
    task that is no step of a flow."""
    added = added_now.get(None)
    if added is not None:
        with _lock:
            if not isinstance(added.graph, AddedNodes):
                added.graph = AddedNodes(added, herd)
            return added.graph
    running = running_now.get(None)
    if running is None:
        return None
    raise ConfigurationError(
        f"{running.name} is no step of a flow, so fn.step(...) has none to add to: write "
        '`with herd.flow("name", child=True) as flow:` around it, and flow.submit() after it'
    )


class AddedNodes:
    """The steps that a running step adds. They are created when it is done, all or none."""

    def __init__(self, added: AddedSteps, herd: HerdCore) -> None:
        step = added.flow
        trace = (None, None) if herd.spans is None else herd.spans.trace_now()
        self._added = added
        self._context = Context(step.flow, ulid_time_ms(step.task) or 0, None, *trace)
        self._lacking: list[StepNode] = []
        self.title = f"what step {step.step} of {step.flow} adds"

    def __repr__(self) -> str:
        return self.title

    def add(self, node: StepNode) -> None:
        """Add a step that has all its arguments; keep any other until it has. Raises ConfigurationError for a step of
        another flow and for too many steps, PayloadTooLarge."""
        for parent in node.parents:
            if parent.graph is not self:
                raise ConfigurationError(f"{parent!r} belongs to {parent.graph or 'no flow'!r}, not to {self!r}")
        node.graph = self
        node.id = self._added.new_id()
        if node.open_end is None:
            self._send(node)
        else:
            self._lacking.append(node)

    def filled(self) -> None:
        """Add the steps that have got what they lacked. Raises as `add`."""
        lacking, self._lacking = self._lacking, []
        for node in lacking:
            if node.open_end is None:
                self._send(node)
            else:
                self._lacking.append(node)

    def check_free(self, node: StepNode) -> None:
        """Raise ConfigurationError for a step that was added: its arguments are written."""
        if node not in self._lacking:
            raise ConfigurationError(f"{node!r} was added with its arguments: give it all of them in its own line")

    def _send(self, node: StepNode) -> None:
        task, payload = write_step(self._context, node, ())
        parents = tuple(parent.id for parent in node.parents)
        self._added.add(AddedStep(node.id, task, payload, parents, node.step_options.mark))
