"""What `fn.step(...)` adds in the code of a running step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from herdmaster import ConfigurationError, Herd
from herdmaster.core.flows import FlowStep
from herdmaster.core.names import derived_ulid, ulid_time_ms
from herdmaster.core.payload import decode_call
from herdmaster.running.added_steps import AddedSteps, added_now
from tests.api.flow_tasks import FlowApp

FLOW = "flow-01h00000000000000000000000"
TASK = f"task-{derived_ulid(1_700_000_000_000, 'a')}.default.f"


@pytest.fixture
def app() -> FlowApp:
    return FlowApp(Herd("localhost:1"))


@pytest.fixture
def added() -> Iterator[AddedSteps]:
    found = AddedSteps(FlowStep(FLOW, "12", "grow", TASK))
    token = added_now.set(found)
    yield found
    added_now.reset(token)


def entries(added: AddedSteps) -> list[tuple[str, tuple[str, ...], str]]:
    return [(each.step, each.parents, each.mark) for each in added.take()]


def test_steps_are_added_in_the_order_in_which_they_are_complete(app: FlowApp, added: AddedSteps) -> None:
    parts = [app.total.step([number]) for number in range(2)]
    parts | app.total.step(extra=3)
    app.merge.step([1], after=parts[0], optional=True)

    assert entries(added) == [
        ("12+0", (), ""), ("12+1", (), ""), ("12+2", ("12+0", "12+1"), ""), ("12+3", ("12+0",), "?"),
    ]  # fmt: skip
    calls = [decode_call(each.payload) for each in added.take()]
    assert [call.flow and (call.flow.flow, call.flow.step) for call in calls] == [
        (FLOW, f"12+{number}") for number in range(4)
    ]
    assert {ulid_time_ms(each.task) for each in added.take()} == {1_700_000_000_000}
    assert bytes(calls[2].args) == b"[[null,null]]"


def test_a_chain_that_is_written_before_its_first_step_is_added_when_it_has_that(
    app: FlowApp, added: AddedSteps
) -> None:
    rest = app.parse.step() | app.store.step()
    assert added.take() == ()
    chain: Any = app.fetch.step("a") | rest
    assert chain is rest
    assert entries(added) == [("12+2", (), ""), ("12+0", ("12+2",), ""), ("12+1", ("12+0",), "")]


def test_the_arguments_of_an_added_step_are_written(app: FlowApp, added: AddedSteps) -> None:
    one: Any = app.total.step([1])
    with pytest.raises(ConfigurationError, match="was added with its arguments"):
        [2] | one
    assert len(added.take()) == 1


def test_steps_of_other_flows_are_refused(app: FlowApp, added: AddedSteps) -> None:
    with app.herd.flow("other"):
        other: Any = app.total.step([1])  # in that flow, and not in the running one
    with pytest.raises(ConfigurationError, match=rf"belongs to the flow 'other', not to what step 12 of {FLOW} adds"):
        app.total.step([other])
    assert added.take() == ()
    mine: Any = app.total.step([1])
    with pytest.raises(ConfigurationError, match="belongs to what step 12"), app.herd.flow("another"):
        app.total.step([mine])
