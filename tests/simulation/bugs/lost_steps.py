"""Planted bugs of steps whose tasks are deleted by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import msgspec

from herdmaster.core import ending_moves, transitions
from herdmaster.core.operations import Move
from herdmaster.core.table import TransitionName
from herdmaster.roles.primary.cancellation import Cancellation
from herdmaster.roles.primary.lost_steps import LostSteps
from herdmaster.roles.worker.commits import Commits
from herdmaster.roles.worker.held import Held, State
from herdmaster.roles.worker.inbox import Inbox
from herdmaster.simulation.plan.drawing import draw_plan
from herdmaster.simulation.plan.faults import DeleteStep, When
from herdmaster.simulation.plan.flow_plans import PlannedFlow, PlannedStep
from herdmaster.simulation.plan.jobs import DEFAULT, Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan
from herdmaster.zookeeper.recipes.children import ChildChange, Removed


def lost_steps_run_for_ever() -> Any:
    """A step whose task is nowhere counts as running."""

    def drop(self: Any, task: str) -> None:
        self.gathering.add(transitions.drop_cancel(task))

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(LostSteps, "step", lambda _self: None))
    stack.enter_context(patch.object(LostSteps, "next_wakeup", lambda _self: None))
    stack.enter_context(patch.object(Cancellation, "_end_nowhere", drop))
    return stack


def lost_steps_forget_their_run() -> Any:
    """A step that is lost in a later run counts as lost in its first."""
    return patch.object(ending_moves, "find_run", lambda _flow, _step, task: (task, 0))


def deleted_steps_are_run() -> Any:
    """A worker does not hear that an assignment is gone, and runs it when a slot is free. If it cannot hand it back, it
    keeps it."""
    handle, refused = Inbox._handle, Commits._refused

    def ignore(self: Any, change: ChildChange) -> None:
        if not isinstance(change, Removed):
            handle(self, change)

    def keep(self: Any, move: Move, held: Held, settlement: Any) -> None:
        if move.transition is TransitionName.HAND_BACK:
            self._tasks._leave(held)
            held.state, held.move = State.READING, None
            held.since += 1000.0
            self._tasks.wait(held)
        else:
            refused(self, move, held, settlement)

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(Inbox, "_handle", ignore))
    stack.enter_context(patch.object(Commits, "_refused", keep))
    return stack


def with_long_steps(seed: int) -> Plan:
    """Return a plan with a flow whose steps take longer than a worker may take to hear of a deletion, one worker with
    one slot, and an operator who deletes some of the tasks in its inbox. It has more than one in its inbox, because the
    steps of another flow before are short."""
    plan = draw_plan(seed)
    ours = [msgspec.structs.replace(each, herd=False, slots=1, queues=(DEFAULT,), knows_flows=True)
            for each in plan.programs if not each.reference]  # fmt: skip
    programs = tuple(next(each for each in ours if each.kind is kind) for kind in Kind if kind is not Kind.OPERATOR)
    flows = tuple(
        PlannedFlow(number, programs[-1].name, at, tuple(
            PlannedStep(Job(10_000 * (number + 1) + step, "", at, raw=False, code=Code.RUN, seconds=seconds))
            for step in range(count)
        ))
        for number, (at, seconds, count) in enumerate(((2.0, 0.01, 60), (6.0, plan.session_timeout + 5.0, 4)))
    )  # fmt: skip
    faults = tuple(DeleteStep(when=When(at=7.0 + number / 4), flow=1) for number in range(3))
    return msgspec.structs.replace(plan, programs=programs, jobs=(), flows=flows, faults=faults, lags=(), horizon=12.0)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug for bug in (lost_steps_run_for_ever, lost_steps_forget_their_run, deleted_steps_are_run)
}
