"""Decides whether an assignment can run on this worker, and in which pool."""

from __future__ import annotations

import msgspec

from herdmaster.core.ending_moves import stands_in_flow
from herdmaster.core.names import is_call
from herdmaster.core.payload import decode_call
from herdmaster.core.transitions import Move
from herdmaster.errors import BadPayload, BadSignature, ConfigurationError
from herdmaster.roles.worker.equipment import Equipment
from herdmaster.roles.worker.held import Held
from herdmaster.roles.worker.next_move import Again, NextMoves
from herdmaster.running.program import Program


class Admission:
    """`program` has the functions of this worker, `equipment` its pools; `moves` decides what becomes of a task that
    this worker cannot run."""

    def __init__(self, program: Program, equipment: Equipment, moves: NextMoves) -> None:
        self._program = program
        self._equipment = equipment
        self._moves = moves

    def admit(self, held: Held) -> Move | Again | None:
        """Find the function of a task and the pool that runs it. Return None if it can run here, else what follows. An
        `each` has no function."""
        task = held.task
        signed_only = self._program.signed_only
        try:
            if not is_call(task.name):
                if signed_only is not None:
                    signed_only.check_task(task.name, task.payload)
                return None
            call = task.call = decode_call(task.payload)
            if signed_only is not None:  # before anything else of the payload is read
                signed_only.check_task(task.name, task.payload)
            if call.flow is not None:
                if not stands_in_flow(task.name, call.flow):
                    task.call = msgspec.structs.replace(call, flow=None)
                elif call.flow.each is not None:
                    return None  # the worker itself makes its items
            task.callee = self._program.find(call.call)
            if task.callee is None:
                return self._moves.pass_on(task)
            task.way = task.callee.way(call.options)
            self._equipment.check(task)
        except (BadPayload, BadSignature, ConfigurationError) as error:
            return self._moves.refuse(task, error)
        held.kind = task.way.options.pool
        held.alone = call.alone
        held.suspect = call.alone or call.deliveries > 0
        return None
