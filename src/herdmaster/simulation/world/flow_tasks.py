"""The flows that clients submit for those of a plan: the payload of each step, and where it waits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from herdmaster.core.codec import write_arguments
from herdmaster.core.flow_creation import NewFlow, NewStep, entry_of
from herdmaster.core.flows import EACH_CALL, Each, FlowHeader, FlowState, FlowStep, OnFailure, Reference, step_task
from herdmaster.core.names import derived_ulid, flow_name
from herdmaster.core.options import Overrides
from herdmaster.core.payload import BIG, Call, encode_call
from herdmaster.simulation.plan.flow_codec import CODEC
from herdmaster.simulation.plan.flow_plans import PlannedFlow, PlannedStep
from herdmaster.simulation.plan.jobs import DEFAULT, STEP, Job

_NO_KWARGS: Final = msgspec.Raw(b"{}")
ADDED: Final = -1
"""In place of the element, for a step that a running step adds."""
_ENVELOPE: Final = 1_000
"""More bytes than a payload has beside its filling."""


def new_flow(plan: PlannedFlow, ulid: str, created_ms: int, *, parent: str | None = None) -> NewFlow:
    """Return the flow to submit. `ulid` is of this submission, `parent` the task whose child the flow is."""
    keyed_name = None if plan.key is None else flow_name(derived_ulid(0, "flow", "simulated", plan.key))
    name = keyed_name or flow_name(ulid)
    header = FlowHeader(
        herd=1,
        name=str(plan.index),
        created=created_ms,
        state=FlowState.RUNNING,
        steps=len(plan.steps),
        on_failure=OnFailure.STOP if plan.stops else OnFailure.FINISH,
        timeout=plan.timeout,
        ttl=plan.ttl,
        outcome=not plan.silent,
        key=plan.key,
        keep=plan.keeps,
        parent=parent,
        child=parent is not None,
    )
    steps = (_step(plan, name, created_ms, number) for number in range(len(plan.steps)))
    return NewFlow(flow_name(ulid), header, tuple(steps), keyed_name)


def added_payload(step: PlannedStep, flow: FlowStep, parents: Iterable[str]) -> bytes:
    """Return the payload of a step that a running step adds."""
    return encode_call(_call(step.job, ADDED, list(parents), flow, plan=None))


def _step(plan: PlannedFlow, flow: str, created_ms: int, number: int) -> NewStep:
    step, ident = plan.steps[number], str(number)
    job = step.job
    task = step_task(created_ms, flow, ident, DEFAULT, job.priority, big=job.size + _ENVELOPE > BIG)
    described = FlowStep(flow=flow, step=ident, name=f"step-{number}", task=task, joins=_joins(plan, number))
    parents = [str(parent) for parent in step.parents]
    call = (
        _each(plan, step, described) if step.each else _call(job, None, parents, described, plan=plan, codec=step.codec)
    )
    entry, edges = _entry(plan, number)
    return NewStep(entry, task, encode_call(call), edges)


def _entry(plan: PlannedFlow, number: int) -> tuple[str, tuple[str, ...]]:
    step = plan.steps[number]
    follows = len(step.parents) == 1 and not plan.steps[step.parents[0]].each
    return entry_of(str(number), step.mark, [str(parent) for parent in step.parents], follows=follows)


def _joins(plan: PlannedFlow, number: int) -> tuple[str, ...]:
    later = (_entry(plan, each) for each, step in enumerate(plan.steps) if number in step.parents)
    return tuple(entry for entry, edges in later if edges)


def _call(
    job: Job, element: object, parents: list[str], flow: FlowStep, *, plan: PlannedFlow | None, codec: bool = False
) -> Call:
    """Return a call of the code of steps. Its arguments are the element, the job, what the parents came to, filling."""
    refs = tuple(
        Reference(("args", 2, place), parent, each=_is_each(plan, parent)) for place, parent in enumerate(parents)
    )
    given = [element, job.index, [None] * len(parents), "x" * job.size]
    args, kwargs = write_arguments(given, {}, None, CODEC if codec else None)
    options = Overrides(max_attempts=job.attempts, backoff=job.backoff)
    flow = msgspec.structs.replace(flow, refs=refs)
    return Call(1, STEP, args, kwargs, options=options, codec=CODEC.name if codec else None, flow=flow)


def _is_each(plan: PlannedFlow | None, step: str) -> bool:
    return plan is not None and step.isdecimal() and plan.steps[int(step)].each


def _each(plan: PlannedFlow, step: PlannedStep, flow: FlowStep) -> Call:
    first, *others = (str(parent) for parent in step.parents)
    item = _call(step.job, None, others, msgspec.structs.replace(flow, step="", task=""), plan=plan, codec=step.codec)
    each = Each(msgspec.Raw(encode_call(item)), DEFAULT, step.job.priority, step.chunk, step.flat)
    of_each = msgspec.structs.replace(
        flow, refs=(Reference((), first, each=_is_each(plan, first)),), after=tuple(others), each=each
    )
    return Call(1, EACH_CALL, msgspec.Raw(b"[]"), _NO_KWARGS, flow=of_each)
