"""Planted bugs of children."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import msgspec

from herdmaster.core import flow_creation, transitions
from herdmaster.core.children import children_of
from herdmaster.roles.primary import cancellation
from herdmaster.roles.primary.cancellation import Cancellation
from herdmaster.roles.worker.child_cancels import ChildCancels


def children_of_cancelled_tasks_stay() -> Any:
    """The primary ends a task as cancelled without a request for its children."""
    return patch.object(cancellation, "children_of", lambda _payload: [])


def children_of_an_old_payload() -> Any:
    """The primary ends a task as cancelled although another child was noted after it had read the task."""
    return patch.object(cancellation, "at_version", lambda move, _path, _version: move)


def children_of_timed_out_tasks_stay() -> Any:
    """A worker asks for no children to be cancelled."""
    return patch.object(ChildCancels, "attempt_ended", lambda *_args: None)


def children_submitted_without_their_parent() -> Any:
    """The submission of a child does not check that its parent is assigned."""
    submit = transitions.submit

    def without_check(client: str, session_id: int, version: int, entries: Any) -> Any:
        batch = [msgspec.structs.replace(each, parent=None) if hasattr(each, "parent") else each for each in entries]
        return submit(client, session_id, version, batch)

    return patch.object(transitions, "submit", without_check)


def requests_for_flows_are_dropped() -> Any:
    """The primary drops a request to cancel a child that is a flow, and does not pass it on."""

    def drop(self: Any, flow: str, **_may_come: Any) -> None:
        self.gathering.add(transitions.drop_cancel(flow))

    return patch.object(Cancellation, "_cancel_flow", drop)


def child_flows_begin_without_their_parent() -> Any:
    """The submission of a child that is a flow does not check that its parent is assigned."""
    return patch.object(flow_creation, "_of_parent", lambda _flow: ())


def children_of_steps_stay() -> Any:
    """The primary ends a step of a flow as cancelled without a request for its children."""

    def find(payload: bytes) -> list[str]:
        return [] if b'"flow":{' in payload else children_of(payload)

    return patch.object(cancellation, "children_of", find)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug
    for bug in (
        children_of_cancelled_tasks_stay,
        children_of_an_old_payload,
        children_of_timed_out_tasks_stay,
        children_submitted_without_their_parent,
        requests_for_flows_are_dropped,
        child_flows_begin_without_their_parent,
        children_of_steps_stay,
    )
}
