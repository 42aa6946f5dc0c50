"""What the code of a step does that adds steps to its flow."""

from __future__ import annotations

from herdmaster.core.added_steps import AddedStep
from herdmaster.core.flows import FlowStep, step_task
from herdmaster.core.names import ulid_time_ms
from herdmaster.running.added_steps import added_now
from herdmaster.simulation.plan.flow_plans import PlannedStep
from herdmaster.simulation.plan.jobs import DEFAULT
from herdmaster.simulation.world.flow_tasks import added_payload


def add_steps(planned: PlannedStep) -> None:
    """Add the steps of the plan to the flow of the running step. Each waits for the one before it."""
    added = added_now.get()
    flow = added.flow
    created_ms = ulid_time_ms(flow.task)
    assert created_ms is not None
    before = flow.step
    for number in range(planned.adds):
        step = added.new_id()
        task = step_task(created_ms, flow.flow, step, DEFAULT, planned.job.priority)
        described = FlowStep(flow=flow.flow, step=step, name=f"added-{number}", task=task)
        payload = added_payload(planned, described, (before,))
        added.add(AddedStep(step, task, payload, parents=() if number == 0 else (before,)))
        before = step
