"""The moves by which a worker ends a step of a flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from herdmaster.core import flow_moves
from herdmaster.core.added_steps import AddedStep, create_added
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import FlowStep, created_of, result_name
from herdmaster.core.payload import MAX_FRAME, with_error
from herdmaster.core.signing import Keyring
from herdmaster.core.transitions import Move
from herdmaster.errors import ConfigurationError
from herdmaster.running.delivery import Delivered

MAX_MOVE: Final = MAX_FRAME - 64 * 1024
"""Bytes of one transaction. ACLs and the namespace come in addition."""
_MANY_JOINS: Final = 200
"""The edges of fewer steps fit one transaction with the largest result."""


class StepMoves:
    """Makes the moves of one worker. `keyring` signs the results of steps, and the steps that are added."""

    def __init__(self, worker: str, keyring: Keyring | None) -> None:
        self._worker = worker
        self._keyring = keyring

    def sign(self, task: str, payload: bytes) -> bytes:
        """Return the payload of a task, signed if there are keys. Raises PayloadTooLarge, BadPayload."""
        return payload if self._keyring is None else self._keyring.sign_task(task, payload)

    def complete(self, task: Delivered, flow: FlowStep, outcome: bytes, steps: Sequence[AddedStep]) -> Move:
        """Return the move of a step that is done, and that has added these steps. Raises ConfigurationError for steps
        that do not fit one transaction, PayloadTooLarge, BadPayload."""
        if self._keyring is not None:
            outcome = self._keyring.sign_outcome(result_name(flow.flow, created_of(flow), flow.step), outcome)
        created = create_added(flow.flow, steps, self.sign) if steps else ()
        move = flow_moves.complete_step(self._worker, task.name, flow, outcome, created)
        if (steps or len(flow.joins) > _MANY_JOINS) and move.size() > MAX_MOVE:
            raise ConfigurationError(
                f"the result of the step, the {len(steps)} steps that it adds and what waits for it need a transaction "
                f"of {move.size()} bytes, and one has at most {MAX_MOVE}: add fewer steps, or return less"
            )
        return move

    def fail(self, task: Delivered, flow: FlowStep, error: ErrorInfo) -> Move:
        return flow_moves.fail_step(self._worker, task.name, flow, with_error(task.payload, error))

    def drop(self, task: Delivered) -> Move:
        """Return the move of a step that has ended elsewhere."""
        return flow_moves.drop_step_assigned(self._worker, task.name)
