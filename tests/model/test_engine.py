"""The exploring itself, on models of two fields."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.engine import STUCK, Model, Process, Reaction, Step


def climb(height: int) -> Iterator[Step]:
    if 0 <= height < 3:
        yield Step(f"climb from {height}", {"height": height + 1})


def fall(height: int) -> Iterator[Step]:
    if height == 2:
        yield Step("fall into the pit", {"height": -1}, progress=False)


def model(*processes: Process, reactions: tuple[Reaction, ...] = ()) -> Model:
    initial = {"height": 0, "left": "door", "right": "door"}
    return Model(initial, {"steps": 0}, processes, reactions, {"height": lambda height: height == 3})


CLIMB = Process(("height",), climb)


def test_every_state_is_found_once() -> None:
    verdict = model(CLIMB, CLIMB).explore()
    assert (verdict.states, verdict.depth, verdict.counterexample) == (4, 4, None)


def test_a_state_from_which_nothing_settles_is_told_by_the_shortest_way_to_it() -> None:
    found = model(CLIMB, Process(("height",), fall)).explore().counterexample
    assert found is not None
    assert found.broken == STUCK
    assert found.story == ("climb from 0", "climb from 1", "fall into the pit", "From here on nothing mends it")


def test_what_is_no_progress_settles_nothing() -> None:
    def whim(height: int) -> Iterator[Step]:
        yield Step("a whim", {"height": 3}, progress=False)

    found = model(Process(("height",), whim)).explore().counterexample
    assert found is not None
    assert found.story == ("From here on nothing mends it",)


def test_a_broken_promise_ends_the_exploring() -> None:
    def slip(height: int) -> Iterator[Step]:
        if height == 1:
            yield Step("slip", {}, broken="no step slips")

    found = model(CLIMB, Process(("height",), slip)).explore().counterexample
    assert found is not None
    assert (found.broken, found.story) == ("no step slips", ("climb from 0", "slip"))


def test_an_event_changes_what_the_reactions_say_and_counts_add_up() -> None:
    def knock(height: int) -> Iterator[Step]:
        if height == 0:
            yield Step("knock", {"height": 3}, event="knock")

    def open_door(name: str, event: object, door: str) -> Step:
        return Step("", {name: "open"} if door == "door" else {}, {"steps": 1})

    reactions = tuple(
        Reaction((name,), lambda event, door, name=name: open_door(name, event, door)) for name in ("left", "right")
    )
    explored = model(Process(("height",), knock), reactions=reactions)
    assert explored.explore().counterexample is None
    assert list(explored.views())[-1] == {"steps": 2, "height": 3, "left": "open", "right": "open"}


def test_a_process_changes_only_what_it_reads() -> None:
    def reach(height: int) -> Iterator[Step]:
        yield Step("reach over", {"left": "open"})

    with pytest.raises(AssertionError, match="without reading"):
        model(Process(("height",), reach)).explore()


def test_a_model_that_grows_too_large_says_so() -> None:
    with pytest.raises(OverflowError, match="more than 2 states"):
        model(CLIMB).explore(limit=2)
