"""Every state of the modelled protocol keeps the promises, and everything settles when the faults are over."""

from __future__ import annotations

import sys

import pytest

from herdmaster.core.flow_rows import FLOW_ROWS
from herdmaster.core.table import TABLE, TransitionName
from tests.model.rules import Setup
from tests.model.runs import ANY_MASTERS, LONG_RUNS, RUNS, UNCOUNTED, line
from tests.model.system import build
from tests.model.vocabulary import Kind

NOT_MODELLED = {
    TransitionName.SUBMIT_LATER,  # told as `submit`
    TransitionName.REPLAY,
    TransitionName.SAVE,  # changes the payload alone, as `mark start` does; the simulation has it
    TransitionName.TICK,  # those of schedules have a model of their own
    TransitionName.SKIP_TICK,
    TransitionName.MARK_TICK,
    TransitionName.CREATE_SCHEDULE,
    TransitionName.EDIT_SCHEDULE,
    TransitionName.RUN_NOW,
    TransitionName.REMOVE_SCHEDULE,
    *(row.name for row in FLOW_ROWS),  # likewise those of flows
    TransitionName.DROP_DELAYED_BECAUSE_STATUS,  # a task that has ended comes back into `/delayed` in no run
}
SMALL = (
    Setup(faults=2, prompt=True),
    Setup(faults=1, masters=ANY_MASTERS, wire_order=True),
    RUNS["tasks are delayed, and may be cancelled or expire"],
    RUNS["attempts fail under any master"],
    RUNS["a worker lacks the function"],
    Setup(faults=1, wire_order=True, cancelling=True),
    Setup(faults=0, wire_order=True, keyed=True),
    RUNS["reference client, too large a task"],
    Setup(faults=1, workers=Kind.REFERENCE, wire_order=True, max_deliveries=UNCOUNTED),
)


def explore(name: str, setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    verdict = build(setup).explore()
    with capsys.disabled():
        sys.stdout.write(f"\n{line(name, verdict)} ")
    assert verdict.counterexample is None, f"{name}\n{verdict.counterexample}"


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", RUNS)
def test_no_step_breaks_a_promise_and_everything_settles(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    explore(name, RUNS[name], capsys)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LONG_RUNS)
def test_nor_does_it_in_the_long_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    explore(name, LONG_RUNS[name], capsys)


@pytest.mark.long
def test_every_transition_in_use_is_carried_out_somewhere() -> None:
    """Otherwise the runs would prove little. A new row of the table is modelled, or named here."""
    stories: set[str] = set()
    for setup in SMALL:
        model = build(setup)
        model.explore(settling=False)
        stories |= model.stories
    carried_out = {name for name in TABLE if any(f"carries out: {name.value}, " in story for story in stories)}
    assert carried_out == TABLE.keys() - NOT_MODELLED
