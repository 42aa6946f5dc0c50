"""The steps that the code of a running step adds to its flow."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Final

from herdmaster.core.added_steps import AddedStep, check_room
from herdmaster.core.flows import FlowStep
from herdmaster.errors import ConfigurationError


class AddedSteps:
    """Collects the steps of one run of a step. Its methods may be called on any thread."""

    def __init__(self, flow: FlowStep) -> None:
        self.flow = flow
        """The step that runs."""
        self.graph: object = None
        """What the interface for programs keeps of the steps."""
        self._lock = threading.Lock()
        self._count = 0
        self._size = 0
        self._added: list[AddedStep] = []
        self._error: ConfigurationError | None = None

    def new_id(self) -> str:
        """Return the id of the next step."""
        with self._lock:
            self._count += 1
            return f"{self.flow.step}+{self._count - 1}"

    def add(self, step: AddedStep) -> None:
        """Add a step. Raises ConfigurationError for one too many; then the run fails, whatever its code does."""
        with self._lock:
            self._size += step.size
            self._added.append(step)
            try:
                check_room(len(self._added), self._size)
            except ConfigurationError as error:
                self._error = error
                raise

    def take(self) -> tuple[AddedStep, ...]:
        """Return all steps. Raises ConfigurationError if there were too many."""
        with self._lock:
            if self._error is not None:
                raise self._error
            return tuple(self._added)


added_now: Final[ContextVar[AddedSteps]] = ContextVar("herdmaster.added_steps")
"""Set while the code of a step runs."""
