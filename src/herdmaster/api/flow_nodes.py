"""The steps of a flow that is being written, and the flow that `fn.step(...)` belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from herdmaster.api.step import Graph, StepNode
from herdmaster.errors import ConfigurationError

current_graph: Final[ContextVar[Graph | None]] = ContextVar("herdmaster.flow", default=None)
"""The flow whose `with` block runs."""


class FlowNodes:
    """The steps of one flow, in the order of their definition. `name` is that of the flow, for errors."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.title = f"the flow {name!r}"
        self.nodes: list[StepNode] = []
        self.is_submitted = False
        self._closed: str | None = None

    def close(self, reason: str) -> None:
        """Take no more steps. `reason` stands in the error."""
        self._closed = self._closed or reason

    def check_open(self) -> None:
        """Raise ConfigurationError if the flow takes no more steps."""
        if self._closed is not None:
            raise ConfigurationError(f"the flow {self.name!r} {self._closed}")

    def add(self, node: StepNode) -> None:
        """Take a step, and its parents that belong to no flow yet, parents first. Raises ConfigurationError for a step
        of another flow."""
        self.check_open()
        pending = [node]
        while pending:
            node = pending[-1]
            self._check(node)
            new = [parent for parent in node.parents if parent.graph is not self]
            if new:
                pending += reversed(new)
                continue
            pending.pop()
            if node.graph is None:
                node.graph = self
                node.id = str(len(self.nodes))
                self.nodes.append(node)

    def _check(self, node: StepNode) -> None:
        if node.graph is not None and node.graph is not self:
            raise ConfigurationError(
                f"{node!r} belongs to {node.graph!r}, and cannot be used in {self!r}: write both as one flow, or give "
                "the result of one, `run.result()`, to the other"
            )

    def check_free(self, _node: StepNode) -> None:
        """Raise ConfigurationError if the flow takes no more steps."""
        self.check_open()

    def filled(self) -> None:
        """Nothing is sent before the flow is submitted, so there is nothing to do."""

    def check_complete(self) -> None:
        """Raise ConfigurationError if a step lacks an argument."""
        for node in self.nodes:
            node.check_complete()

    def __repr__(self) -> str:
        return self.title
