"""The pages and pictures that derive from the code are current: `make pages` writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generator import decisions, life, states
from docs.generator.__main__ import DOCS, PAGES
from docs.generator.files import SOURCE, first_sentence
from herdmaster.core.flow_rows import FLOW_ROWS
from herdmaster.core.table import TABLE, TransitionName


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_derives_from_the_code_is_current(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "run `make pages`"


def test_every_module_says_in_a_sentence_what_is_inside() -> None:
    def is_sentence(path: Path) -> bool:
        return re.fullmatch(r".{12,}\.", first_sentence(path)) is not None

    assert [str(path) for path in SOURCE.rglob("*.py") if not is_sentence(path)] == []


def test_the_picture_of_a_tasks_states_has_every_transition_of_a_task() -> None:
    drawn = {row.name for edge in states.edges() for row in edge.transitions}
    drawn.update(row.name for row in states.copies_dropped())
    of_something_else = {
        TransitionName.DROP_CANCEL,
        TransitionName.RELEASE,
        TransitionName.SKIP_TICK,
        TransitionName.MARK_TICK,
        TransitionName.CREATE_SCHEDULE,
        TransitionName.EDIT_SCHEDULE,
        TransitionName.REMOVE_SCHEDULE,
        *(row.name for row in FLOW_ROWS),
    }
    assert drawn == TABLE.keys() - of_something_else


@pytest.mark.long
def test_the_life_of_a_task_names_the_files_that_run() -> None:
    documented = set(re.findall(r"^\| `(.+?)` \|", (DOCS / "life-of-a-task.md").read_text(), re.MULTILINE))
    traces: list[dict[str, list[str]]] = []
    always, sometimes = {"nothing was traced"}, set[str]()
    for _ in range(3):  # timers of a busy machine may fire in each of a few traces
        traces += life.trace()
        always = {file for files in life.common(traces).values() for file in files}
        sometimes = {file for each in traces for files in each.values() for file in files}
        if always <= documented <= sometimes:
            break
    assert always - documented == set(), "these run, too; run `make pages`"
    assert documented - sometimes == set(), "these do not run; run `make pages`"


def test_the_numbers_of_the_decisions_are_consecutive() -> None:
    found = decisions.read()
    assert [each.number for each in found] == list(range(1, len(found) + 1))
