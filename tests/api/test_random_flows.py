"""Random flows of up to 200 steps, by real workers, come to what a plain sequential evaluation comes to."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from herdmaster import Herd
from herdmaster.api.internals import core_of
from herdmaster.testing.child_server import ChildServer
from tests.api.conftest import SESSION_TIMEOUT, run_roles

MOST_STEPS = 200
PATIENCE = 60.0


def digest(*values: object) -> int:
    return zlib.crc32(msgspec.json.encode(values))


def combine(number: int, given: list[Any]) -> int:
    return digest(number, given)


def spread(number: int, given: list[Any], count: int) -> list[int]:
    return [digest(number, given, place) for place in range(count)]


def handle(element: Any, number: int) -> int:
    return digest(element, number)


class App:
    """The functions as tasks of one Herd."""

    def __init__(self, herd: Herd) -> None:
        self.herd = herd
        self.combine = herd.task(combine)
        self.spread = herd.task(spread)
        self.handle = herd.task(handle)


class Planned(NamedTuple):
    """A step. `parents` are steps before it. `length`: it returns a list of so many values. `is_each`: it has one item
    for each element of what its first parent returns, or for as many as `chunk_size` says."""

    parents: tuple[int, ...]
    length: int | None = None
    is_each: bool = False
    chunk_size: int | None = None


@st.composite
def graphs(draw: st.DrawFn) -> list[Planned]:
    size = draw(st.sampled_from((1, 5, 20, 60, MOST_STEPS)))
    rng = draw(st.randoms(use_true_random=False))
    steps: list[Planned] = []
    for number in range(size):
        lists = [each for each, step in enumerate(steps) if step.length is not None or step.is_each]
        if lists and rng.random() < 0.1:
            steps.append(Planned((rng.choice(lists),), is_each=True, chunk_size=rng.choice((None, 2, 3))))
            continue
        parents = rng.sample(range(number), min(number, rng.choice((0, 1, 1, 2, 3, 12))))
        count = rng.choice((0, 1, 5)) if rng.random() < 0.15 else None
        steps.append(Planned(tuple(parents), count))
    return steps


def evaluate(steps: list[Planned]) -> list[object]:
    """Return the value of each step."""
    values: list[Any] = []
    for number, step in enumerate(steps):
        found = [values[parent] for parent in step.parents]
        if step.is_each:
            values.append([digest(element, number) for element in found[0]])
        elif step.length is not None:
            values.append([digest(number, found, place) for place in range(step.length)])
        else:
            values.append(digest(number, found))
    return values


def write(app: App, steps: list[Planned]) -> Any:
    """Return the flow of the steps; it returns the values of all."""
    with app.herd.flow("random", timeout=PATIENCE) as flow:
        made: list[Any] = []
        for number, step in enumerate(steps):
            parents = [made[parent] for parent in step.parents]
            if step.is_each:
                made.append(flow.each(app.handle.using(chunk_size=step.chunk_size), parents[0], number))
            elif step.length is not None:
                made.append(app.spread.step(number, parents, step.length))
            else:
                made.append(app.combine.step(number, parents))
        flow.returns(made)
    return flow


@pytest.fixture(scope="module")
def app(shared_zookeeper: ChildServer) -> Iterator[App]:
    hosts = f"{shared_zookeeper.hosts}/random-flows"
    functions = core_of(App(Herd("localhost:1")).herd).registry.functions
    with run_roles(hosts, functions), run_roles(hosts, functions), Herd(hosts, session_timeout=SESSION_TIMEOUT) as herd:
        yield App(herd)


@pytest.mark.long
@pytest.mark.timeout(120)
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(steps=graphs())
def test_a_random_flow_comes_to_what_a_plain_evaluation_does(app: App, steps: list[Planned]) -> None:
    run = write(app, steps).submit()
    assert run.result(timeout=PATIENCE) == evaluate(steps)
