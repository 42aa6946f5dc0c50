"""The graph of a flow in plain text."""

from __future__ import annotations

import click

from herdmaster.cli.flow_tree import tree_lines
from herdmaster.core.failure import ErrorInfo
from herdmaster.inspection.flow_seen import StepInfo, StepState

NOW = 1_764_356_400_000
DONE, RUNNING, WAITING = StepState.DONE, StepState.RUNNING, StepState.WAITING


def lines(*steps: StepInfo) -> list[str]:
    return [click.unstyle(line) for line in tree_lines(steps, NOW)]


def test_a_chain_is_not_indented_and_a_fork_is() -> None:
    assert lines(
        StepInfo("0", "fetch", DONE, began=NOW - 62_000, ended=NOW - 60_000),
        StepInfo("1", "clean", RUNNING, ("0",), worker="worker-1", began=NOW - 9_000, attempt=2),
        StepInfo("2", "count", WAITING, ("1",), ("1",)),
        StepInfo("3", "sort", WAITING, ("1",), ("1",)),
        StepInfo("4", "store", WAITING, ("3",), ("3",)),
        StepInfo("5", "merge", WAITING, ("2", "4"), ("2", "4")),
        StepInfo("6", "notify", WAITING, ("5",), ("5",), when="failure"),
    ) == [
        "0 fetch      done       2 s  60s ago",
        "1 clean      running    for 9s  on worker-1  attempt 2",
        "|- 2 count   waiting    waits for 1 clean",
        "`- 3 sort    waiting    waits for 1 clean",
        "   4 store   waiting    waits for 3 sort",
        "   5 merge   waiting    waits for 2 count, 4 store",
        "   6 notify  waiting    (on failure)  waits for 5 merge",
    ]


def test_a_step_that_is_done_names_all_its_parents_if_it_has_several() -> None:
    assert lines(StepInfo("0", "a", DONE), StepInfo("1", "b", DONE), StepInfo("2", "c", DONE, ("0", "1"))) == [
        "|- 0 a  done",
        "`- 1 b  done",
        "   2 c  done       after 0 a, 1 b",
    ]


def test_items_are_counted_and_some_errors_shown() -> None:
    errors = {f"0.{number}": ErrorInfo("ValueError", f"bad\x1b[2J file {number}") for number in range(7)}
    items = {DONE: 9_990, StepState.FAILED: 7, RUNNING: 3}
    shown = lines(StepInfo("0", "parse", StepState.FAILED, items=items, errors=errors))
    assert shown[:2] == [
        "0 parse  failed     3 running, 9,990 done, 7 failed",
        "    0.0: ValueError: bad\\x1b[2J file 0",
    ]
    assert len(shown) == 6


def test_chunks_are_shown_with_the_number_of_their_items() -> None:
    assert lines(StepInfo("0", "parse", RUNNING, items={DONE: 1_990, RUNNING: 10}, chunked=120_000)) == [
        "0 parse  running    120,000 items in 2,000 chunks: 10 running, 1,990 done"
    ]
    assert lines(StepInfo("0", "parse", DONE, items={DONE: 1}, chunked=3)) == [
        "0 parse  done       3 items in 1 chunk: 1 done"
    ]


def test_many_that_are_waited_for_are_cut() -> None:
    parents = tuple(map(str, range(5)))
    shown = lines(
        *(StepInfo(each, f"f{each}", DONE) for each in parents), StepInfo("5", "m", WAITING, parents, parents)
    )
    assert shown[-1].endswith("waits for 0 f0, 1 f1, 2 f2 and 2 more")


def test_a_chain_of_a_thousand_steps_is_drawn() -> None:
    chain = [StepInfo(f"{number}", "f", WAITING, (f"{number - 1}",) if number else ()) for number in range(1000)]
    assert lines(*chain)[999].startswith("999 f")
