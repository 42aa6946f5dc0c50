"""Planted bugs of steps whose tasks are deleted by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from herdmaster.core import ending_moves, transitions
from herdmaster.roles.primary.cancellation import Cancellation
from herdmaster.roles.primary.lost_steps import LostSteps


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


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug for bug in (lost_steps_run_for_ever, lost_steps_forget_their_run)
}
