from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.flows import (
    FlowHeader,
    FlowState,
    FlowStep,
    Reference,
    Returns,
    decode_header,
    encode_header,
    note_of,
    parents_of,
    step_task,
    task_of,
)
from herdmaster.core.names import is_step, parse_step_id, parse_task_name, queue_of
from herdmaster.errors import BadPayload

F = "flow-01hzzzzzzzzzzzzzzzzzzzzzzz"


def test_a_header_is_read_as_it_was_written_and_says_only_what_it_needs_to() -> None:
    header = FlowHeader(1, "report", 5, FlowState.RUNNING, 3, Returns(msgspec.Raw(b"null"), (Reference((), "2"),)))
    assert decode_header(encode_header(header)) == header
    assert b"retries" not in encode_header(header)


@pytest.mark.parametrize("data", [None, b"", b"done", b'{"herd":2}', b'{"herd":1,"name":"x"}'])
def test_what_is_no_header_is_one_clear_error(data: bytes | None) -> None:
    with pytest.raises(BadPayload, match="the header of the flow cannot be read"):
        decode_header(data)


@given(st.sampled_from(["default", "b", "c", "f"]), st.integers(0, 9), st.booleans(), st.integers(0, 3))
def test_the_task_of_a_run_keeps_queue_and_marks_and_has_a_name_of_its_own(
    queue: str, priority: int, big: bool, run: int
) -> None:
    step = FlowStep(F, "4.17", "parse", step_task(5, F, "4.17", queue, priority, big=big))
    name = parse_task_name(task_of(step, run))
    assert name is not None
    assert (name.queue, name.priority, name.big, name.step) == (queue, priority, big, True)
    assert is_step(name.name)
    assert queue_of(name.name) == queue
    assert len({task_of(step, each) for each in range(4)}) == 4
    assert task_of(step, run) == task_of(step, run)


def test_a_call_of_the_queue_f_is_no_step() -> None:
    assert not is_step("task-01hzzzzzzzzzzzzzzzzzzzzzzz.f")
    assert is_step("task-01hzzzzzzzzzzzzzzzzzzzzzzz.f.f")
    assert not is_step("task-01hzzzzzzzzzzzzzzzzzzzzzzz.mail.c")


def test_the_same_step_of_the_same_flow_has_another_task_when_the_flow_was_made_anew() -> None:
    assert step_task(5, F, "0", "default", 5) != step_task(6, F, "0", "default", 5)


def test_parents_are_named_once_and_noted_up_to_a_bound() -> None:
    refs = tuple(Reference(("args", number), str(number % 150)) for number in range(300))
    step = FlowStep(F, "200", "merge", step_task(5, F, "200", "default", 5), refs=refs, after=("3", "180"))
    assert parents_of(step) == (*map(str, range(150)), "180")
    note = note_of(step)
    assert note is not None
    assert len(note.after) == 100
    assert note_of(msgspec.structs.replace(step, step="4.1")) is None


@pytest.mark.parametrize(("name", "is_id"), [("0", True), ("4.17", True), ("12+0", True), ("4.17+3", True),
    ("", False), ("4.", False), ("a", False), ("4:5", False), ("7!", False)])  # fmt: skip
def test_ids_of_steps(name: str, is_id: bool) -> None:
    assert (parse_step_id(name) == name) is is_id
