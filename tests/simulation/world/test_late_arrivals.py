"""What arrives late over a connection that its client gave up: the world lets it happen, and judges it."""

from __future__ import annotations

from herdmaster.simulation.checks.links import LinkCheck
from herdmaster.simulation.plan.drawing import draw_plan
from herdmaster.simulation.plan.faults import Stall


class Link:
    def __init__(self, *, is_closing: bool = False) -> None:
        self.is_closing = is_closing

    def __str__(self) -> str:
        return "worker-1#1 to zk1:2181"


def test_a_request_over_a_connection_that_its_session_has_left_is_a_failure() -> None:
    failures: list[str] = []
    check = LinkCheck(failures.append)
    old, new, other = Link(is_closing=True), Link(), Link()
    check.attached(1, old)
    check.attached(2, other)
    check.asked(1, old, "Sync")
    assert (failures, check.late_requests) == ([], 1)

    check.attached(1, new)
    check.asked(1, new, "Sync")
    check.asked(2, other, "Sync")
    assert (failures, check.late_requests) == ([], 1)
    check.asked(1, old, "Sync")
    assert failures == ["Sync of session 1 arrives over worker-1#1 to zk1:2181, which the session has left"]


def test_a_third_of_the_later_worlds_have_late_replies_and_connections_that_stall() -> None:
    plans = [draw_plan(seed) for seed in range(5000, 5060)]
    late = [plan for plan in plans if plan.late_replies]

    assert 10 <= len(late) <= 26
    assert all(any(isinstance(fault, Stall) for fault in plan.faults) for plan in late)
    assert not any(draw_plan(seed).late_replies for seed in range(1000, 1020))
