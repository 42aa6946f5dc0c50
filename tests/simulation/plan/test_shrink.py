"""A failing plan is shrunk to what it needs to fail in the same way."""

from __future__ import annotations

from herdmaster.simulation.plan.drawing import draw_plan
from herdmaster.simulation.plan.faults import Crash, When
from herdmaster.simulation.plan.plan import Plan
from herdmaster.simulation.plan.shrink import MAX_RUNS, Shrinker, kind_of

PLAN = next(plan for plan in map(draw_plan, range(1000)) if len(plan.jobs) > 20 and len(plan.faults) > 5)


def test_only_the_fault_and_the_job_that_fail_are_left() -> None:
    fault, job = PLAN.faults[2], PLAN.jobs[7]

    def run(plan: Plan) -> str | None:
        return "task-3 was lost" if fault in plan.faults and job in plan.jobs else None

    shrinker = Shrinker(PLAN, "task-1 was lost", run)
    plan = shrinker.shrink()
    assert (plan.faults, plan.jobs) == ((fault,), (job,))
    assert {program.name for program in plan.programs} >= {job.client, "master-1", "worker-1"}
    assert shrinker.runs <= MAX_RUNS


def test_another_failure_does_not_count() -> None:
    shrinker = Shrinker(PLAN, "task-1 was lost", lambda _plan: "not settled")
    assert shrinker.shrink() is PLAN


def test_a_failure_is_compared_without_names_and_numbers() -> None:
    assert kind_of("worker-1#2 lost task-7") == kind_of("worker-3#1 lost task-9")
    assert kind_of("worker-1 lost task-7") != kind_of("worker-1 kept task-7")


def test_a_fault_says_when_it_happens() -> None:
    fault = Crash(when=When(transaction=7, later=0.5), program="worker-1", seconds=2.0, power=False)
    assert str(fault) == "Crash 0.500 s after transaction 7: program worker-1, seconds 2.0, power False"
