"""What becomes of flows whose parts are answered one by one: what is certain, and who waits behind whom."""

from __future__ import annotations

import pytest

from herdmaster.core.flow_creation import NewFlow, NewStep
from herdmaster.core.flows import FlowHeader, FlowState
from herdmaster.core.names import flow_name
from herdmaster.core.operations import FlowPart
from herdmaster.errors import DuplicateTask, HerdError, NotSubmitted, SubmissionUnknown
from herdmaster.roles.client.flow_submissions import FlowSubmissions
from herdmaster.roles.client.journal_items import Answer, KeyTaken

KEYED = flow_name("01arz3ndektsv4rrffq69g5fav")


class Journal:
    """Parts wait in `sent` until the test answers them. Those that are given up are answered as unknown."""

    def __init__(self) -> None:
        self.flows = FlowSubmissions(self._submit, self._give_up)
        self.sent: dict[str, Answer] = {}
        self.told: dict[str, HerdError | None] = {}

    def _submit(self, part: FlowPart, answer: Answer) -> None:
        self.sent[part.name] = answer

    def _give_up(self, part: str) -> None:
        self.answer(part, SubmissionUnknown([part]))

    def submit(self, number: int, count: int = 1, *, size: int = 10, key: str | None = None) -> str:
        """Return the name of the submission."""
        name = flow_name(f"01arz3ndektsv4rrffq69g5fa{number}")
        steps = tuple(NewStep(str(step), f"task-{step}", b"x" * size) for step in range(count))
        header = FlowHeader(1, "report", 1, FlowState.BUILDING, count, key=key)
        flow = NewFlow(name, header, steps, None if key is None else KEYED)

        def accepted(error: HerdError | None) -> None:
            assert name not in self.told, "it was told before"
            self.told[name] = error

        self.flows.submit(flow, accepted, lambda: None)
        return name

    def answer(self, part: str, error: HerdError | None = None) -> None:
        self.sent.pop(part)(error)


@pytest.mark.parametrize("count", [1, 500])
def test_only_what_is_before_the_last_part_is_certainly_not_accepted(count: int) -> None:
    journal = Journal()
    name = journal.submit(1, count)
    while f"{name}/last" not in journal.sent and count > 1:
        assert journal.told == {}
        journal.answer(next(iter(journal.sent)))
    (part,) = journal.sent
    journal.answer(part, SubmissionUnknown([part]))
    assert isinstance(journal.told[name], SubmissionUnknown)

    large = journal.submit(2, 500)
    journal.answer(large, SubmissionUnknown([large]))
    assert isinstance(journal.told[large], NotSubmitted)


def test_what_waits_behind_a_duplicate_is_one_as_well() -> None:
    journal = Journal()
    names = [journal.submit(number, key="k") for number in (1, 2, 3)]
    assert list(journal.sent) == names[:1]
    journal.answer(names[0], KeyTaken(KEYED))
    assert [type(journal.told[name]) for name in names] == [DuplicateTask] * 3
    assert journal.sent == {}


def test_what_was_given_up_behind_another_flow_is_told_once() -> None:
    journal = Journal()
    names = [journal.submit(number, key="k") for number in (1, 2, 3)]
    assert journal.flows.give_up(names[1])
    journal.answer(names[0], NotSubmitted("it was refused"))
    assert list(journal.sent) == [names[2]]
    journal.answer(names[2])
    assert [type(journal.told[name]) for name in names] == [NotSubmitted, NotSubmitted, type(None)]


def test_after_a_part_that_failed_the_others_are_given_up_and_the_last_one_is_not_sent() -> None:
    journal = Journal()
    name = journal.submit(1, 500)
    journal.answer(name)
    assert len(journal.sent) > 2
    journal.answer(next(iter(journal.sent)), NotSubmitted("it was refused"))
    assert journal.sent == {}
    assert isinstance(journal.told[name], NotSubmitted)
