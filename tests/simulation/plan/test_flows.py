"""Flows that are drawn can be run, and a plain evaluation knows their values."""

from __future__ import annotations

import msgspec
import pytest

from herdmaster.core.codec import read_arguments
from herdmaster.core.flow_creation import NewFlow
from herdmaster.core.payload import decode_call
from herdmaster.simulation.plan.flow_codec import CODEC
from herdmaster.simulation.plan.flow_plans import PlannedFlow, PlannedStep
from herdmaster.simulation.plan.flow_values import evaluate, value_of
from herdmaster.simulation.plan.flows import draw_flow
from herdmaster.simulation.plan.jobs import Code, Job
from herdmaster.simulation.world.flow_tasks import new_flow

ULID = "01arz3ndektsv4rrffq69g5fav"
CREATED = 1_700_000_000_000


def step(index: int, parents: tuple[int, ...] = (), *, items: int | None = None, each: bool = False) -> PlannedStep:
    job = Job(index=index, client="", at=0.0, raw=False, code=Code.RUN, seconds=0.01)
    return PlannedStep(job, parents, items=items, each=each)


def flow_of(*steps: PlannedStep) -> PlannedFlow:
    return PlannedFlow(index=3, client="client-1", at=0.0, steps=steps)


def created(*steps: PlannedStep) -> NewFlow:
    return new_flow(flow_of(*steps), ULID, CREATED)


def test_a_value_depends_on_all_that_a_step_is_given() -> None:
    values = {value_of(1, None, [2], None), value_of(2, None, [2], None), value_of(1, 0, [2], None)}
    assert len({*map(str, values), str(value_of(1, None, [3], None))}) == 4


def test_items_are_evaluated_one_by_one() -> None:
    values = evaluate(flow_of(step(0, items=2), step(1, (0,), each=True), step(2, (1,))))
    first = values["0"]
    assert isinstance(first, list)
    assert values["1"] == [value_of(1, element, [], None) for element in first]
    assert values["2"] == value_of(2, None, [values["1"]], None)


def test_a_step_with_one_parent_follows_it_and_any_other_has_edges() -> None:
    steps = created(step(0, items=1), step(1, (0,)), step(2, (0, 1)), step(3, (0,), each=True), step(4, (3,))).steps
    assert [(each.entry, each.edges) for each in steps] == [
        ("0", ()), ("0:1", ()), ("2", ("0", "1")), ("0:3", ()), ("4", ("3",)),
    ]  # fmt: skip


def test_a_step_knows_the_edges_that_it_deletes() -> None:
    flow = decode_call(created(step(0), step(1), step(2, (0, 1))).steps[0].data).flow
    assert flow is not None
    assert flow.joins == ("2",)


def test_an_each_says_how_many_elements_are_in_a_chunk() -> None:
    chunked = msgspec.structs.replace(step(1, (0,), each=True), chunk=3)
    flow = decode_call(created(step(0, items=5), chunked).steps[1].data).flow
    assert flow is not None
    assert flow.each is not None
    assert flow.each.chunk == 3


def test_lists_are_made_flat_and_evaluated_so() -> None:
    lists = msgspec.structs.replace(step(0, items=2), lists=3)
    flat = msgspec.structs.replace(step(1, (0,), each=True), flat=True, lists=1)
    values = evaluate(flow_of(lists, flat))
    found = values["0"]
    assert isinstance(found, list)
    assert [len(each) for each in found] == [3, 3]
    assert values["1"] == [value_of(1, element, [], None, 1) for each in found for element in each]
    flow = decode_call(created(lists, flat).steps[1].data).flow
    assert flow is not None
    assert flow.each is not None
    assert flow.each.flat


def test_a_codec_writes_the_arguments_of_a_step_and_the_template_of_items() -> None:
    written = [msgspec.structs.replace(each, codec=True) for each in (step(0, items=1), step(1, (0,), each=True))]
    first, second = (decode_call(each.data) for each in created(*written).steps)
    assert second.flow is not None
    assert second.flow.each is not None
    for index, call in enumerate((first, decode_call(bytes(second.flow.each.item)))):
        assert call.codec == CODEC.name
        assert read_arguments(call, None, {CODEC.name: CODEC})[0] == [None, index, [], ""]
    assert second.codec is None


def test_a_child_names_its_parent() -> None:
    header = new_flow(flow_of(step(0)), ULID, CREATED, parent="task-parent").header
    assert (header.parent, header.child) == ("task-parent", True)


@pytest.mark.parametrize("seed", range(20))
def test_every_drawn_flow_can_be_submitted(seed: int) -> None:
    plan = draw_flow(seed)
    flow = new_flow(plan, ULID, CREATED)
    assert len(flow.steps) == len(plan.steps)
    assert all(max(each.parents, default=-1) < number for number, each in enumerate(plan.steps))
    assert len({each.task for each in flow.steps}) == len(plan.steps)
    assert all(decode_call(each.data).flow is not None for each in flow.steps)
    assert msgspec.json.encode(evaluate(plan))
