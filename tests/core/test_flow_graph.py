"""The graph of a flow before its header is known, and before all of its folders are listed."""

from __future__ import annotations

from herdmaster.core.flow_graph import FlowGraph
from herdmaster.core.flow_scope import FAILED, PARTS, RUNNING, STEPS


def test_nothing_is_ready_or_offered_before_all_folders_are_listed() -> None:
    offered: list[str] = []
    graph = FlowGraph(offered.append)
    assert (graph.is_known, graph.waiting, list(graph.ready)) == (False, [], [])
    graph.replace(STEPS, ("0",))
    graph.replace_edges("0", ())
    for part in [part for part in PARTS if part != STEPS]:
        graph.refresh()
        assert (graph.is_known, list(graph.ready), offered) == (False, [], [])
        graph.replace(part, ())
    graph.refresh()
    assert (graph.is_known, list(graph.ready), set(offered)) == (True, ["0"], {"0"})


def test_the_edges_of_an_entry_that_has_left_need_not_be_listed() -> None:
    graph = FlowGraph(lambda _entry: None)
    graph.replace(STEPS, ("0", "1"))
    for part in [part for part in PARTS if part != STEPS]:
        graph.replace(part, ())
    graph.replace_edges("0", ())
    assert not graph.is_known
    graph.remove(STEPS, "1")
    assert graph.is_known


def test_a_failure_stops_the_flow_only_if_the_header_says_so() -> None:
    graph = FlowGraph(lambda _entry: None)
    seen = [graph.is_stopped]
    graph.add(RUNNING, "0")
    graph.add(FAILED, "1")
    seen.append(graph.is_stopped)
    for stops in (True, False):
        graph.set_stops(stops)
        seen.append(graph.is_stopped)
    assert seen == [False, False, True, False]
