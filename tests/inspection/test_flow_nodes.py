"""The graph of a flow for people: what is alike is one node."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from herdmaster.inspection.flow_nodes import graph_of
from herdmaster.inspection.flow_seen import StepInfo, StepState


def step(ident: str, name: str, *parents: str, state: StepState = StepState.WAITING) -> StepInfo:
    return StepInfo(ident, name, state, parents)


def labels(steps: list[StepInfo]) -> list[str]:
    return [node.label for node in graph_of(steps)]


def test_few_steps_are_a_node_each_after_their_parents() -> None:
    steps = [step("2", "merge", "0", "1"), step("0", "fetch"), step("1", "fetch"), step("3", "store", "2", "gone")]
    nodes = graph_of(steps)
    assert [node.label for node in nodes] == ["0 fetch", "1 fetch", "2 merge", "3 store"]
    assert [node.parents for node in nodes] == [(), (), (0, 1), (2,)]
    assert [node.children for node in nodes] == [(2,), (2,), (3,), ()]
    assert [node.depth for node in nodes] == [0, 0, 1, 2]


def test_many_steps_that_are_alike_are_one_node_in_each_layer() -> None:
    steps = [step("0", "start")]
    for number in range(50):
        state = StepState.FAILED if number == 7 else StepState.DONE
        steps += [
            step(f"{2 * number + 1}", "parse", "0", state=state),
            step(f"{2 * number + 2}", "clean", f"{2 * number + 1}"),
        ]
    steps.append(step("101", "merge", *(f"{2 * number + 2}" for number in range(50))))
    nodes = graph_of(steps)
    assert [node.label for node in nodes] == ["0 start", "1..99 parse", "2..100 clean", "101 merge"]
    assert [node.parents for node in nodes] == [(), (0,), (1,), (2,)]
    assert nodes[1].counts == {StepState.DONE: 49, StepState.FAILED: 1}
    assert nodes[1].state is StepState.FAILED


def test_steps_of_one_name_in_other_places_stay_apart() -> None:
    steps = [step("0", "a"), step("1", "b")]
    steps += [step(f"{number}", "parse", "0" if number % 2 else "1") for number in range(2, 22)]
    assert labels(steps) == ["0 a", "1 b", "2..20 parse", "3..21 parse"]


def test_the_items_of_an_each_are_counted() -> None:
    items = {StepState.DONE: 9_997, StepState.FAILED: 3}
    (node,) = graph_of([StepInfo("4", "parse", StepState.FAILED, items=items)])
    assert (node.total, node.counts, node.label) == (10_000, items, "4 parse")


def test_a_chain_of_a_thousand_steps_is_not_merged() -> None:
    chain = [step(f"{number}", "f", *([f"{number - 1}"] if number else [])) for number in range(1000)]
    assert len(graph_of(chain)) == 1000


@given(st.data())
def test_every_step_is_in_one_node_and_every_edge_leads_down(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30))
    steps = []
    for number in range(count):
        parents = data.draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        steps.append(step(f"{number}", data.draw(st.sampled_from("fg")), *map(str, sorted(parents))))
    nodes = graph_of(steps)
    assert sorted(each.id for node in nodes for each in node.steps) == sorted(each.id for each in steps)
    place = {each.id: number for number, node in enumerate(nodes) for each in node.steps}
    for each in steps:
        for parent in each.parents:
            assert place[parent] in nodes[place[each.id]].parents
            assert nodes[place[parent]].depth < nodes[place[each.id]].depth
    assert all(parent < number for number, node in enumerate(nodes) for parent in node.parents)
