"""The grammar of names, and ULIDs."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.names import (
    MAX_NAME,
    TaskKind,
    TaskName,
    UlidFactory,
    call_name,
    check_queue,
    client_name,
    flow_name,
    has_outcome,
    is_call,
    is_raw,
    is_step,
    master_name,
    parse_client_name,
    parse_flow_name,
    parse_master_name,
    parse_step_id,
    parse_task_name,
    parse_worker_name,
    queue_and_priority,
    queue_and_time,
    raw_name,
    ulid_time_ms,
    worker_name,
)
from herdmaster.errors import InvalidName

ULID = "01arz3ndektsv4rrffq69g5fav"
ulids = st.builds(
    lambda first, rest: first + rest,
    st.sampled_from("01234567"),
    st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=25, max_size=25),
)
queues = st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True).filter(
    lambda q: not (len(q) == 2 and q[0] == "p" and q[1].isdigit())
)


@given(ulids, queues, st.integers(0, 9), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_a_calls_name_and_its_fields_determine_each_other(
    ulid: str, queue: str, priority: int, markers: tuple[bool, bool, bool]
) -> None:
    big, conditional, step = markers
    name = call_name(ulid, queue, priority, big, conditional, step=step)
    assert parse_task_name(name) == TaskName(name, TaskKind.CALL, queue, priority, big, conditional, step)
    assert is_step(name) == step
    assert queue_and_priority(name) == (queue, priority)
    assert is_call(name)


pieces = st.sampled_from(
    ["task-", ULID, ".", ".mail", ".b", ".c", ".f", ".p5", ".p7", ".p55", "-", "A", "_", "\n", "é", "/"]
)


@given(st.lists(pieces, max_size=8).map("".join))
def test_whatever_parses_as_a_call_is_written_back_as_the_same_name(text: str) -> None:
    found = parse_task_name(text)
    assert (found is None) == (queue_and_priority(text) is None)
    if found is None:
        return
    assert queue_and_priority(text) == (found.queue, found.priority)
    assert is_call(text) == (found.kind is TaskKind.CALL)
    if found.kind is TaskKind.CALL:
        ulid = text[5:31]
        assert call_name(ulid, found.queue, found.priority, found.big, found.conditional, step=found.step) == text
        assert is_step(text) == found.step


_OLD_NAME = re.compile(rf"task-(?:{ULID}\.[a-z][a-z0-9_-]*(?:\.p[0-46-9])?(\.b)?(\.c)?|[A-Za-z0-9_-]+)").fullmatch
"""The names of tasks before there were flows."""


@pytest.mark.parametrize("name", [call_name(ULID, step=True), call_name(ULID, "f", 7, True, True, step=True)])
def test_an_older_program_takes_the_name_of_a_step_for_a_foreign_one(name: str) -> None:
    assert parse_task_name(name) is not None
    assert _OLD_NAME(name) is None
    assert _OLD_NAME(name.removesuffix(".f")) is not None


@pytest.mark.parametrize(
    "name", ["task-0000000001", "task--2147483648", "task-001", f"task-{ULID}", "task-p5", "task-A_b-9"]
)
def test_a_raw_name_has_the_default_queue_and_priority(name: str) -> None:
    assert parse_task_name(name) == TaskName(name, TaskKind.RAW, "default", 5, False, False)
    assert queue_and_priority(name) == ("default", 5)
    assert not is_call(name)


@pytest.mark.parametrize(
    ("suffix", "queue", "priority", "big", "conditional"),
    [
        (".b", "b", 5, False, False),
        (".c", "c", 5, False, False),
        (".b.b", "b", 5, True, False),
        (".c.p9.b.c", "c", 9, True, True),
        (".p", "p", 5, False, False),
        (".p55", "p55", 5, False, False),
        (".p-5.p0", "p-5", 0, False, False),
    ],
)
def test_the_first_word_after_the_ulid_is_always_the_queue(
    suffix: str, queue: str, priority: int, big: bool, conditional: bool
) -> None:
    name = f"task-{ULID}{suffix}"
    assert parse_task_name(name) == TaskName(name, TaskKind.CALL, queue, priority, big, conditional)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "task",
        "task-",
        "job-1",
        "Task-1",
        "task-1.mail",
        "task-é",
        "task-a b",
        "task-1\n",
        f"task-{ULID}.",
        f"task-{ULID}.p5",
        f"task-{ULID}.p5.b",
        f"task-{ULID}.mail.p5",
        f"task-{ULID}.mail.p10",
        f"task-{ULID}.mail.c.b",
        f"task-{ULID}.mail.b.p7",
        f"task-{ULID}.mail.b.b",
        f"task-{ULID}.mail.x",
        f"task-{ULID}.mail\n",
        f"task-{ULID}.Mail",
        f"task-{ULID}.1mail",
        f"task-{ULID}.{'q' * 64}",
        f"task-{ULID.upper()}.mail",
        f"task-8{ULID[1:]}.mail",
        f"task-{ULID[:-1]}u.mail",
        f"task-{ULID[:-1]}.mail",
        "task-" + "x" * (MAX_NAME - 4),
    ],
)
def test_anything_else_is_not_a_task_name(name: str) -> None:
    assert parse_task_name(name) is None
    assert queue_and_priority(name) is None


def test_names_of_one_queue_share_the_queues_string() -> None:
    first = parse_task_name(f"task-{ULID}.some-queue")
    second = parse_task_name(f"task-{ULID}.some-queue.p7")
    assert first is not None
    assert second is not None
    assert first.queue is second.queue


@pytest.mark.parametrize("queue", ["", "Mail", "1st", "p0", "p9", "a.b", "a/b", "q" * 64, "mail\n", "é"])
def test_a_bad_queue_is_refused_with_what_is_allowed(queue: str) -> None:
    with pytest.raises(InvalidName, match="lower-case letter"):
        check_queue(queue)
    with pytest.raises(ValueError, match="lower-case letter"):
        call_name(ULID, queue)


@pytest.mark.parametrize("priority", [-1, 10])
def test_a_bad_priority_is_refused_with_what_is_allowed(priority: int) -> None:
    with pytest.raises(InvalidName, match="from 0 to 9"):
        call_name(ULID, priority=priority)


@pytest.mark.parametrize("ulid", ["", ULID.upper(), ULID + "0", "8" + ULID[1:], "x.y"])
def test_a_bad_ulid_is_refused(ulid: str) -> None:
    with pytest.raises(InvalidName, match="ULID"):
        call_name(ulid)
    with pytest.raises(InvalidName, match="ULID"):
        raw_name(ulid)


@given(st.lists(st.integers(0, 2**48 - 2), min_size=1, max_size=50), st.binary(min_size=10, max_size=10))
def test_ulids_grow_even_when_the_clock_goes_back(clock: list[int], random: bytes) -> None:
    ticks = iter(clock)
    factory = UlidFactory(lambda: next(ticks), lambda n: random)
    made = [factory.new() for _ in clock]
    assert made == sorted(set(made))
    assert all(parse_task_name(call_name(ulid)) is not None for ulid in made)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_ulid_says_when_it_was_made(now: int, random: bytes) -> None:
    ulid = UlidFactory(lambda: now, lambda n: random).new()
    assert ulid_time_ms(call_name(ulid, "mail", 7)) == now
    assert ulid_time_ms(raw_name(ulid)) == now
    assert ulid_time_ms("task-0000000001") is None
    assert queue_and_time(call_name(ulid, "mail", 7, big=True)) == ("mail", now)
    assert queue_and_time(call_name(ulid, "mail")) == ("mail", now)


def test_a_ulid_is_crockfords_base_32_of_time_and_randomness() -> None:
    factory = UlidFactory(lambda: 1, lambda n: bytes(n - 1) + b"\x20")
    assert factory.new() == "0000000001" + "0000000000000010"
    assert factory.new() == "0000000001" + "0000000000000011"


def test_used_up_random_bits_carry_into_the_time() -> None:
    randoms = itertools.chain([b"\xff" * 10], itertools.repeat(bytes(10)))
    factory = UlidFactory(lambda: 1, lambda n: next(randoms))
    assert factory.new() == "0000000001" + "z" * 16
    assert factory.new() == "0000000002" + "0" * 16


def test_a_clock_beyond_48_bits_is_an_error_and_not_a_wrong_name() -> None:
    with pytest.raises(OverflowError, match="set the clock right"):
        UlidFactory(lambda: 2**48, bytes).new()


@pytest.mark.parametrize(
    ("make", "parse", "prefix"),
    [
        (worker_name, parse_worker_name, "worker-"),
        (master_name, parse_master_name, "master-"),
        (client_name, parse_client_name, "client-"),
    ],
)
def test_members_names_are_a_prefix_and_an_id(make, parse, prefix) -> None:  # type: ignore[no-untyped-def] # three pairs
    assert make("1a_B-9") == f"{prefix}1a_B-9"
    assert parse(f"{prefix}1a_B-9") == "1a_B-9"
    assert parse(make(prefix)) == prefix
    for bad in ["", "a b", "a/b", "é", "a.b", "a\n", "x" * MAX_NAME]:
        assert parse(prefix + bad) is None
        with pytest.raises(InvalidName, match="letters, digits"):
            make(bad)
    assert parse("other-1") is None


@given(ulids)
def test_the_names_of_flows(ulid: str) -> None:
    name = flow_name(ulid)
    assert parse_flow_name(name) == ulid
    assert parse_task_name(name) is None
    assert has_outcome(name)
    assert not is_raw(name)


@pytest.mark.parametrize(
    "name", ["flow-", f"flow-{ULID}.x", f"flow-{ULID.upper()}", f"flow-{ULID}\n", f"task-flow-{ULID}", ULID]
)
def test_what_is_not_the_name_of_a_flow(name: str) -> None:
    assert parse_flow_name(name) is None
    with pytest.raises(InvalidName):
        flow_name(name.removeprefix("flow-") if name != ULID else f"flow-{ULID}")


def test_what_is_raw() -> None:
    assert is_raw("task-0000000001")
    assert not any(map(is_raw, [call_name(ULID), f"{flow_name(ULID)}/7", f"{flow_name(ULID)}/4.17"]))


numbers = st.integers(0, 999).map(str)


@given(numbers, st.lists(st.tuples(st.sampled_from(".+"), numbers)).map(lambda parts: "".join(map("".join, parts))))
def test_the_ids_of_steps(first: str, rest: str) -> None:
    step = first + rest
    assert parse_step_id(step) == (step if len(step) <= MAX_NAME else None)
    for other in ("", ".", "-1", step + "!", step + "?", step + ".", f"{step}/1", f"{step}:1", step + "\n", " " + step):
        assert parse_step_id(other) is None
    assert has_outcome(step) is False
