"""The picture of flows: what can start and what is at rest, in any order of events and after any listing."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from herdmaster.core.flow_graph import is_marked, parent_of, step_of
from herdmaster.core.flow_picture import Flow, FlowPicture, Start
from herdmaster.core.flow_scope import CANCEL, FAILED, PARTS, RESULTS, RUNNING, STEPS
from herdmaster.core.flows import FlowHeader, FlowState

F = "flow-1"
ROOT = "/flows"
FLOW = f"{ROOT}/{F}"


def folder(part: str) -> str:
    return f"{FLOW}/{part}"


def new_picture(*entries: str, stops: bool = False) -> FlowPicture:
    """The picture of a flow that was made with these steps: an entry, then its edges after spaces."""
    picture = FlowPicture()
    picture.replace(ROOT, ())
    picture.add(ROOT, F)
    for part in (STEPS, RESULTS, FAILED):
        picture.add(FLOW, part)
    for each in entries:
        entry, *edges = each.split()
        picture.add(folder(STEPS), entry)
        for parent in edges:
            picture.add(f"{folder(STEPS)}/{entry}", parent)
    picture.add(FLOW, RUNNING)
    picture.set_header(F, stops=stops)
    return picture


def started(picture: FlowPicture) -> list[str]:
    return [start.entry for start in picture.take(1000)]


def looked_at(picture: FlowPicture) -> list[str]:
    flows = picture.take_flows(1000)
    for flow in flows:
        picture.finish(flow.name)
    return [flow.name for flow in flows]


def flow_of(picture: FlowPicture) -> Flow:
    found = picture.get(F)
    assert found is not None
    return found


def done(picture: FlowPicture, step: str, *joins: str) -> None:
    for entry in joins:
        picture.remove(f"{folder(STEPS)}/{entry}", step)
    picture.add(folder(RESULTS), step)


@pytest.mark.parametrize(
    ("entry", "step", "parent", "marked"),
    [("7", "7", None, False), ("7!", "7", None, True), ("4.1?", "4.1", None, True), ("4:7+0", "7+0", "4", False)],
)
def test_an_entry_says_its_step_and_its_parent(entry: str, step: str, parent: str | None, marked: bool) -> None:
    assert (step_of(entry), parent_of(entry), is_marked(entry)) == (step, parent, marked)
    assert Start(F, entry).key == f"{F}/{entry}"


def test_a_join_starts_when_its_last_edge_goes() -> None:
    picture = new_picture("2 0 1")
    done(picture, "0", "2")
    assert started(picture) == []
    done(picture, "1", "2")
    assert started(picture) == ["2"]


def test_a_follower_starts_when_its_parent_has_a_result() -> None:
    picture = new_picture("0:1", "0:2", "1:3")
    done(picture, "0")
    assert sorted(started(picture)) == ["0:1", "0:2"]


def test_roots_of_a_large_flow_start_when_it_begins_to_run() -> None:
    picture = FlowPicture()
    picture.replace(ROOT, (F,))
    picture.replace(FLOW, (STEPS,))
    assert started(picture) == []
    picture.add(FLOW, RUNNING)
    for part in (RESULTS, FAILED):
        picture.replace(folder(part), ())
    picture.replace(folder(STEPS), ("0", "1"))
    picture.replace(f"{folder(STEPS)}/0", ())
    picture.set_header(F, stops=False)
    assert started(picture) == [], "the edges of 1 are unknown"
    picture.replace(f"{folder(STEPS)}/1", ("0",))
    assert started(picture) == ["0"]


def test_nothing_starts_before_the_header_is_known() -> None:
    picture = new_picture("0")
    picture.change(F)
    assert looked_at(picture) == [F]
    assert started(picture) == []
    picture.set_header(F, stops=False)
    assert started(picture) == ["0"]


def test_an_optional_step_starts_without_parents_that_failed_or_are_blocked() -> None:
    picture = new_picture("3? 0 2", "0:1", "2 1")
    picture.add(folder(FAILED), "0")
    assert picture.take(10) == [Start(F, "3?", ("0", "2"))]


def test_a_failure_step_starts_only_after_a_failure() -> None:
    picture = new_picture("2! 0 1")
    done(picture, "0", "2!")
    picture.add(folder(FAILED), "1")
    assert picture.take(10) == [Start(F, "2!", ("1",))]

    picture = new_picture("2! 0 1", "3? 2", "2:4")
    done(picture, "0", "2!")
    assert started(picture) == []
    done(picture, "1", "2!")
    assert picture.take(10) == [Start(F, "3?", ("2",))], "2 never starts, so it is over"


def test_a_marked_step_waits_for_what_still_runs() -> None:
    picture = new_picture("2? 0 1")
    picture.add(folder(FAILED), "0")
    assert started(picture) == []
    done(picture, "1", "2?")
    assert picture.take(10) == [Start(F, "2?", ("0",))]


def test_a_stopped_flow_starts_marked_steps_only() -> None:
    picture = new_picture("1", "3! 2 0", "2 1", stops=True)
    picture.add(folder(FAILED), "0")
    assert started(picture) == ["3!"], "1 will not start, so 2 will not"
    picture.remove(folder(FAILED), "0")
    picture.finish(f"{F}/3!")
    assert started(picture) == ["1"]


def test_the_first_failure_stops_a_flow_in_which_something_was_over_before() -> None:
    picture = new_picture("2! 0", "3 5", "4? 3", stops=True)
    done(picture, "0", "2!")
    assert started(picture) == []
    picture.add(folder(FAILED), "1")
    assert started(picture) == ["4?"], "3 will not start"


def test_a_step_that_is_added_to_a_stopped_flow_is_over_at_once() -> None:
    picture = new_picture("3! 0", stops=True)
    picture.add(folder(FAILED), "0")
    assert started(picture) == ["3!"]
    for entry, parent in (("6", "5"), ("7?", "6")):
        picture.add(folder(STEPS), entry)
        picture.add(f"{folder(STEPS)}/{entry}", parent)
    assert started(picture) == ["7?"]


def test_what_waits_for_a_failure_is_not_over_once_its_edges_have_come() -> None:
    picture = new_picture()
    picture.add(folder(STEPS), "2!")
    assert started(picture) == []
    picture.add(f"{folder(STEPS)}/2!", "0")
    picture.add(folder(STEPS), "3?")
    picture.add(f"{folder(STEPS)}/3?", "2")
    assert started(picture) == []


def test_a_failure_step_is_over_when_its_last_edge_goes_after_the_result() -> None:
    picture = new_picture("2! 0", "3? 2")
    picture.add(folder(RESULTS), "0")
    assert started(picture) == []
    picture.remove(f"{folder(STEPS)}/2!", "0")
    assert started(picture) == ["3?"]


def test_a_failure_that_is_retried_makes_a_failure_step_wait_again() -> None:
    picture = new_picture("1! 0", "2? 1", "3? 4")
    picture.add(folder(FAILED), "0")
    picture.add(folder(FAILED), "4")
    assert picture.has_offers
    picture.remove(folder(FAILED), "0")
    assert started(picture) == ["3?"]


def test_a_listing_says_what_is_to_be_stopped() -> None:
    picture = new_picture()
    picture.interrupt()
    picture.replace(ROOT, (F,))
    picture.replace(FLOW, (*PARTS, CANCEL))
    picture.replace(folder(RUNNING), ("t",))
    assert list(flow_of(picture).to_stop) == ["t"]


def test_a_step_that_is_retried_no_longer_starts_marked_steps() -> None:
    picture = new_picture("1? 0", "0:2", "3! 2")
    picture.add(folder(FAILED), "0")
    picture.remove(folder(FAILED), "0")
    assert started(picture) == []


def test_a_start_holds_only_as_long_as_its_edges_are_the_same() -> None:
    picture = new_picture("2! 0 1")
    picture.add(folder(FAILED), "0")
    picture.add(folder(FAILED), "1")
    (start,) = picture.take(10)
    assert picture.can_start(start)
    done(picture, "1", "2!")
    assert not picture.can_start(start)


def test_a_flow_is_at_rest_when_nothing_runs_or_can_start() -> None:
    picture = new_picture("0:1")
    picture.add(folder(RUNNING), "t")
    looked_at(picture)
    assert not flow_of(picture).is_at_rest
    picture.remove(folder(RUNNING), "t")
    picture.add(folder(RESULTS), "0")
    assert looked_at(picture) == [F]
    assert not flow_of(picture).is_at_rest
    (start,) = picture.take(10)
    picture.remove(folder(STEPS), "0:1")
    picture.add(folder(RUNNING), "t2")
    picture.finish(start.key)
    assert not flow_of(picture).is_at_rest
    picture.remove(folder(RUNNING), "t2")
    assert looked_at(picture) == [F]
    assert flow_of(picture).is_at_rest
    assert looked_at(picture) == []


def test_a_flow_is_done_when_all_its_steps_are() -> None:
    picture = new_picture("0:1")
    assert not flow_of(picture).is_done  # a step waits
    picture.remove(folder(STEPS), "0:1")
    picture.add(folder(RUNNING), "t")
    assert not flow_of(picture).is_done
    picture.remove(folder(RUNNING), "t")
    assert flow_of(picture).is_done
    picture.add(folder(FAILED), "1")
    assert not flow_of(picture).is_done
    picture.remove(folder(FAILED), "1")
    picture.add(FLOW, CANCEL)
    assert not flow_of(picture).is_done


def test_a_header_that_was_set_is_not_kept() -> None:
    picture = new_picture()
    header = FlowHeader(1, "report", 0, FlowState.RUNNING, 1)
    picture.set_header(F, version=3, header=header)
    assert (flow_of(picture).header, flow_of(picture).is_done) == (header, True)
    picture.change(F)
    assert (flow_of(picture).header, flow_of(picture).is_done) == (None, False)


def test_a_cancelled_flow_starts_nothing_and_says_what_to_stop() -> None:
    picture = new_picture("1")
    picture.add(folder(RUNNING), "t")
    picture.add(FLOW, CANCEL)
    assert started(picture) == []
    assert looked_at(picture) == [F]
    assert list(flow_of(picture).to_stop) == ["t"]
    picture.remove(folder(RUNNING), "t")
    assert looked_at(picture) == [F]
    assert flow_of(picture).is_at_rest


def test_a_flow_that_is_opened_again_is_not_cancelled_before_its_old_cancel_is_seen_to_go() -> None:
    picture = new_picture("1")
    picture.add(FLOW, CANCEL)
    picture.remove(FLOW, RUNNING)
    picture.add(FLOW, RUNNING)
    picture.add(folder(RUNNING), "t")
    assert not flow_of(picture).is_cancelled
    picture.remove(FLOW, CANCEL)
    picture.add(FLOW, CANCEL)
    assert flow_of(picture).is_cancelled
    assert list(flow_of(picture).to_stop) == ["t"]


def test_a_flow_that_has_ended_is_forgotten() -> None:
    picture = new_picture("1", "2 1")
    assert picture.running == 1
    picture.remove(FLOW, RUNNING)
    assert picture.running == 0
    assert started(picture) == looked_at(picture) == []
    assert flow_of(picture).graph is None
    picture.remove(ROOT, F)
    assert picture.get(F) is None


def test_nothing_is_given_out_after_an_interruption() -> None:
    picture = new_picture("1")
    picture.interrupt()
    assert started(picture) == looked_at(picture) == []
    assert not picture.is_current


def test_what_waits_for_nothing_that_failed_is_stuck() -> None:
    graph = flow_of(new_picture("1 0", "1:2", "3! 0")).graph
    assert graph is not None
    assert sorted(graph.find_stuck()) == ["1", "1:2", "3!"]
    graph.add(FAILED, "0")
    graph.refresh()
    assert graph.find_stuck() == []


def test_a_refuted_step_that_is_still_there_is_postponed() -> None:
    picture = new_picture("1")
    (start,) = picture.take(10)
    assert not picture.refute(start.key, 5.0)
    assert started(picture) == []
    picture.release_postponed(5.0)
    (start,) = picture.take(10)
    picture.remove(folder(STEPS), "1")
    assert picture.refute(start.key, 9.0)


@pytest.mark.long
def test_a_join_of_ten_thousand_is_cheap() -> None:
    """Also where all of its parents fail one by one, and it is optional."""
    count = 10_000
    for entry in ("x", "x?"):
        picture = new_picture(" ".join([entry, *map(str, range(count))]))
        begin = time.process_time()
        for number in range(count):
            if entry == "x":
                done(picture, str(number), "x")
            else:
                picture.add(folder(FAILED), str(number))
            assert bool(started(picture)) == (number == count - 1)
        assert time.process_time() - begin < 1.5


# --- any order of events ---------------------------------------------------------------------------------------------


class Znodes(RuleBasedStateMachine):
    """Lets a flow go any legal way, and compares the picture with what follows from all of its znodes."""

    @initialize(stops=st.booleans())
    def begin(self, stops: bool) -> None:
        self.picture = new_picture(stops=stops)
        self.stops = stops
        self.joins: dict[str, set[str]] = {}
        self.followers: set[str] = set()
        self.running: set[str] = set()
        self.results: set[str] = set()
        self.failed: set[str] = set()
        self.count = 0

    # --- what can happen

    def ids(self) -> list[str]:
        return sorted({*map(step_of, (*self.joins, *self.followers)), *self.running, *self.failed, *self.results})

    @rule(mark=st.sampled_from(["", "", "!", "?"]), data=st.data())
    def add_join(self, mark: str, data: st.DataObject) -> None:
        not_done = [each for each in self.ids() if each not in self.results]
        parents = data.draw(st.sets(st.sampled_from(not_done), max_size=4)) if not_done else set()
        entry = f"{self.count}{mark}"
        self.count += 1
        self.joins[entry] = set(parents)
        self.picture.add(folder(STEPS), entry)
        for parent in sorted(parents):
            self.picture.add(f"{folder(STEPS)}/{entry}", parent)

    @precondition(lambda self: self.ids())
    @rule(data=st.data())
    def add_follower(self, data: st.DataObject) -> None:
        entry = f"{data.draw(st.sampled_from(self.ids()))}:{self.count}"
        self.count += 1
        self.followers.add(entry)
        self.picture.add(folder(STEPS), entry)

    @rule(how_many=st.integers(1, 3))
    def start(self, how_many: int) -> None:
        for start in self.picture.take(how_many):
            for parent in start.missing:
                self.joins[start.entry].discard(parent)
                self.picture.remove(f"{folder(STEPS)}/{start.entry}", parent)
            self.joins.pop(start.entry, None)
            self.followers.discard(start.entry)
            self.picture.remove(folder(STEPS), start.entry)
            self.running.add(start.step)
            self.picture.add(folder(RUNNING), start.step)
            self.picture.finish(start.key)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fails=st.booleans())
    def end(self, data: st.DataObject, fails: bool) -> None:
        step = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(step)
        self.picture.remove(folder(RUNNING), step)
        if fails:
            self.failed.add(step)
            self.picture.add(folder(FAILED), step)
            return
        for entry, parents in self.joins.items():
            if step in parents:
                parents.discard(step)
                self.picture.remove(f"{folder(STEPS)}/{entry}", step)
        self.results.add(step)
        self.picture.add(folder(RESULTS), step)

    @precondition(lambda self: self.failed)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        step = data.draw(st.sampled_from(sorted(self.failed)))
        self.failed.discard(step)
        self.picture.remove(folder(FAILED), step)
        self.running.add(step)
        self.picture.add(folder(RUNNING), step)

    @rule()
    def list_again(self) -> None:
        self.picture.interrupt()
        self.picture.replace(ROOT, (F,))
        self.picture.replace(FLOW, PARTS)
        self.picture.replace(folder(RUNNING), tuple(self.running))
        self.picture.replace(folder(STEPS), (*self.joins, *self.followers))
        self.picture.replace(folder(RESULTS), tuple(self.results))
        for entry, parents in self.joins.items():
            self.picture.replace(f"{folder(STEPS)}/{entry}", tuple(parents))
        self.picture.set_header(F, stops=self.stops)
        self.picture.replace(folder(FAILED), tuple(self.failed))

    # --- what has to be

    def over(self) -> set[str]:
        over = set(self.failed)
        if self.stops and self.failed:
            over |= {step_of(entry) for entry in (*self.joins, *self.followers) if not is_marked(entry)}
        over |= {step_of(entry) for entry, parents in self.joins.items() if entry.endswith("!") and not parents}
        while True:
            blocked = {
                step_of(entry) for entry, parents in self.joins.items() if not is_marked(entry) and parents & over
            }
            blocked |= {step_of(entry) for entry in self.followers if parent_of(entry) in over}
            if blocked <= over:
                return over
            over |= blocked

    def ready(self) -> set[str]:
        over, is_stopped = self.over(), self.stops and bool(self.failed)
        found = {entry for entry, parents in self.joins.items() if entry.endswith("?") and parents <= over}
        found |= {entry for entry, parents in self.joins.items() if entry.endswith("!") and parents and parents <= over}
        if not is_stopped:
            found |= {entry for entry, parents in self.joins.items() if not is_marked(entry) and not parents}
            found |= {entry for entry in self.followers if parent_of(entry) in self.results}
        return found

    @invariant()
    def what_can_start_is_what_follows_from_the_znodes(self) -> None:
        taken = self.picture.take(1000)
        for start in taken:
            self.picture.finish(start.key)
        assert {start.entry for start in taken} == self.ready()
        assert len(taken) == len({start.entry for start in taken})
        assert flow_of(self.picture).is_at_rest == (not self.running and not self.ready())


TestZnodes = Znodes.TestCase
TestZnodes.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
pytest.mark.long(TestZnodes)


@given(st.text("0123456789.+:!?", max_size=8))
def test_the_step_of_any_text_has_no_colon(entry: str) -> None:
    assert ":" not in step_of(entry)
