"""Planted bugs in what a primary counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from herdmaster.core.decisions import Assign
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.throttle import Throttle


def refused_assignment_stays_counted() -> Any:
    """The assignment that was refused or lost still counts as part of its worker's load."""
    end = Dispatcher._end

    def keep(self: Any, decision: Any) -> None:
        if not isinstance(decision, Assign):
            end(self, decision)
        else:
            self._throttle.end_assignment(decision.task)

    return patch.object(Dispatcher, "_end", keep)


def new_limit_counts_from_zero() -> Any:
    """A limit that is set while tasks run does not count those tasks."""
    set_limits = Throttle.set_limits

    def without_count(self: Any, *args: Any) -> None:
        set_limits(self, *args)
        self.needs_count = False

    return patch.object(Throttle, "set_limits", without_count)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug for bug in (refused_assignment_stays_counted, new_limit_counts_from_zero)
}
