"""Outcomes of calls, and the plain words that answer raw tasks."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.bounds import MAX_MS
from herdmaster.core.failure import MAX_MESSAGE, MAX_TRACEBACK, ErrorInfo, error_info
from herdmaster.core.names import MAX_NAME
from herdmaster.core.outcome import (
    MAX_OUTCOME,
    Outcome,
    OutcomeState,
    decode_outcome,
    decode_result,
    encode_outcome,
    encode_result,
    exception_of,
)
from herdmaster.core.payload import ENVELOPE_GROWTH, MAX_FRAME, MAX_PAYLOAD, with_error
from herdmaster.core.transitions import bury
from herdmaster.errors import BadOutcome, NotSerializable, ResultTooLarge, TaskCancelled, TaskExpired, TaskFailed
from tests.core.test_values import json_values

CALL = "task-01arz3ndektsv4rrffq69g5fav.mail"
RAW = "task-0000000001"
texts = st.text(st.characters(exclude_categories=["Cs"]))
errors = st.builds(ErrorInfo, texts, texts, texts, st.none() | st.tuples(texts, st.integers(), st.none()))
endings = st.fixed_dictionaries(
    {},
    optional={
        "worker": texts,
        "started": st.integers(0, MAX_MS),
        "ended": st.integers(0, MAX_MS),
        "attempt": st.integers(1, 100),
    },
)
outcomes = st.one_of(
    st.builds(lambda value, rest: Outcome(OutcomeState.DONE, encode_result(value), **rest), json_values, endings),
    st.builds(lambda error, rest: Outcome(OutcomeState.FAILED, error=error, **rest), errors, endings),
    st.builds(lambda rest: Outcome(OutcomeState.CANCELLED, **rest), endings),
    st.builds(lambda rest: Outcome(OutcomeState.EXPIRED, **rest), endings),
)


@given(outcomes)
def test_a_calls_outcome_comes_back_as_it_was(outcome: Outcome) -> None:
    assert decode_outcome(CALL, encode_outcome(CALL, outcome)) == outcome


@pytest.mark.long
@given(json_values)
def test_a_result_comes_back_unchanged(value: object) -> None:
    status = encode_outcome(CALL, Outcome(OutcomeState.DONE, encode_result(value)))
    assert decode_result(decode_outcome(CALL, status)) == value


def test_a_calls_outcome_is_written_as_documented() -> None:
    done = Outcome(OutcomeState.DONE, encode_result(5), worker="worker-1", started=1, ended=2)
    assert encode_outcome(CALL, done) == (
        b'{"herd":1,"state":"done","result":5,"worker":"worker-1","started":1,"ended":2,"attempt":1}'
    )
    assert encode_outcome(CALL, Outcome(OutcomeState.DONE)) == b'{"herd":1,"state":"done","result":null,"attempt":1}'
    assert encode_outcome(CALL, Outcome(OutcomeState.CANCELLED)) == b'{"herd":1,"state":"cancelled","attempt":1}'


def test_a_raw_task_that_is_done_is_answered_exactly_done() -> None:
    assert encode_outcome(RAW, Outcome(OutcomeState.DONE, worker="worker-1", ended=5)) == b"done"
    assert decode_outcome(RAW, b"done") == Outcome(OutcomeState.DONE)
    assert decode_result(decode_outcome(RAW, b"done")) is None


@pytest.mark.long
@given(outcomes.filter(lambda outcome: outcome.state is not OutcomeState.DONE))
def test_a_raw_failure_never_contains_done(outcome: Outcome) -> None:
    status = encode_outcome(RAW, outcome)
    assert status.startswith(b"failed")
    assert b"done" not in status
    assert decode_outcome(RAW, status).state is not OutcomeState.DONE


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("ValueError", b"failed: ValueError"),
        ("shop.NotYetdone", b"failed"),
        ("abandoned.Cart", b"failed"),
        ("", b"failed"),
    ],
)
def test_a_raw_failure_names_its_type_unless_that_contains_done(name: str, status: bytes) -> None:
    assert encode_outcome(RAW, Outcome(OutcomeState.FAILED, error=ErrorInfo(name))) == status


@pytest.mark.parametrize(
    ("message", "status"),
    [("NoAuth on /tasks/task-1", b"failed: BadPayload: NoAuth on /tasks/task-1"), ("done", b"failed: BadPayload")],
)
def test_a_raw_task_that_is_refused_for_its_payload_says_why_unless_that_contains_done(
    message: str, status: bytes
) -> None:
    outcome = Outcome(OutcomeState.FAILED, error=ErrorInfo("BadPayload", message))
    assert encode_outcome(RAW, outcome) == status
    read = decode_outcome(RAW, status).error
    assert read is not None
    assert (read.type, read.message) == ("BadPayload", "" if message == "done" else message)


def test_a_raw_failure_raises_its_type_again() -> None:
    assert isinstance(exception_of(decode_outcome(RAW, b"failed: ValueError")), ValueError)
    unknown = exception_of(decode_outcome(RAW, b"failed"))
    assert isinstance(unknown, TaskFailed)


@pytest.mark.parametrize("state", [OutcomeState.CANCELLED, OutcomeState.EXPIRED])
def test_a_raw_task_says_that_it_was_cancelled_or_expired(state: OutcomeState) -> None:
    assert decode_outcome(RAW, encode_outcome(RAW, Outcome(state))).state is state


def test_a_reference_worker_may_write_more_around_done() -> None:
    assert decode_outcome(RAW, b"task done\n").state is OutcomeState.DONE


@pytest.mark.parametrize("data", [b"", b"Done", b"failure", b"failed:x", b"\xff\xfe", b"{}"])
def test_garbage_as_a_raw_status_is_a_bad_outcome(data: bytes) -> None:
    with pytest.raises(BadOutcome, match="neither"):
        decode_outcome(RAW, data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", CALL),
        (b"garbage", CALL),
        (b"[]", CALL),
        (b"{}", "herd"),
        (b'{"herd":2,"state":"done","result":1}', "2"),
        (b'{"herd":1,"state":"finished"}', "finished"),
        (b'{"herd":1,"state":"failed"}', "not how"),
        (b'{"herd":1,"state":"failed","error":{}}', "type"),
        (b'{"herd":1,"state":"done","result":', CALL),
        (b"[" * 100_000, CALL),
        (b"done", "does not run calls"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_garbage_as_a_calls_status_is_a_bad_outcome(data: bytes, reason: str) -> None:
    with pytest.raises(BadOutcome, match=reason):
        decode_outcome(CALL, data)


@given(st.binary(max_size=100), st.sampled_from([CALL, RAW]))
def test_any_bytes_are_an_outcome_or_a_bad_outcome(data: bytes, task: str) -> None:
    with contextlib.suppress(BadOutcome):
        assert decode_outcome(task, data).state in OutcomeState


def test_a_result_that_only_fails_inside_is_a_bad_outcome() -> None:
    outcome = decode_outcome(CALL, b'{"herd":1,"state":"done","result":["\xff"]}')
    with pytest.raises(BadOutcome, match="result"):
        decode_result(outcome)


def test_unknown_fields_of_an_outcome_do_no_harm() -> None:
    outcome = decode_outcome(CALL, b'{"new":[1],"herd":1,"state":"done","result":1}')
    assert decode_result(outcome) == 1


def test_a_done_outcome_without_a_result_has_none() -> None:
    assert decode_result(decode_outcome(CALL, b'{"herd":1,"state":"done"}')) is None


def test_each_state_raises_its_own_error() -> None:
    assert exception_of(Outcome(OutcomeState.DONE)) is None
    assert isinstance(exception_of(Outcome(OutcomeState.CANCELLED)), TaskCancelled)
    assert isinstance(exception_of(Outcome(OutcomeState.EXPIRED)), TaskExpired)
    assert isinstance(exception_of(Outcome(OutcomeState.FAILED, error=error_info(KeyError("k")))), KeyError)


def test_a_result_that_json_cannot_say_is_refused_as_the_result() -> None:
    with pytest.raises(NotSerializable, match=r"the result \(a object\)"):
        encode_result(object())


def test_a_result_may_be_as_large_as_an_outcome_and_not_larger() -> None:
    frame = len(encode_outcome(CALL, Outcome(OutcomeState.DONE, encode_result(""))))
    fits = Outcome(OutcomeState.DONE, encode_result("x" * (MAX_OUTCOME - frame)))
    assert len(encode_outcome(CALL, fits)) == MAX_OUTCOME
    with pytest.raises(ResultTooLarge, match=f"{MAX_OUTCOME + 1} bytes, at most {MAX_OUTCOME}"):
        encode_outcome(CALL, Outcome(OutcomeState.DONE, encode_result("x" * (MAX_OUTCOME - frame + 1))))


WORST = ErrorInfo("\x01" * 256, "\x01" * MAX_MESSAGE, "\x01" * MAX_TRACEBACK, ("\x01" * 680,))


def test_the_largest_payload_and_the_largest_failure_fit_one_frame_when_a_task_is_buried() -> None:
    longest = "x" * MAX_NAME
    payload = b'{"herd":1,"call":"m:f","args":[],"kwargs":{},"more":"%s"}' % (b"x" * MAX_PAYLOAD)
    dead = with_error(payload, ErrorInfo("\x01" * 256, "\x01" * MAX_MESSAGE, "\x01" * MAX_TRACEBACK))
    assert len(payload) < len(dead) <= MAX_PAYLOAD + ENVELOPE_GROWTH
    move = bury(longest, longest, bytes(MAX_PAYLOAD + ENVELOPE_GROWTH), bytes(MAX_OUTCOME // 2))
    assert 32 + move.size(namespace=1000) <= MAX_FRAME


def test_the_worst_failure_always_fits_an_outcome() -> None:
    failure = encode_outcome(CALL, Outcome(OutcomeState.FAILED, error=WORST, worker="w" * MAX_NAME))
    assert len(failure) < MAX_OUTCOME // 2


def test_results_are_kept_as_the_worker_wrote_them() -> None:
    outcome = decode_outcome(CALL, b'{"herd":1,"state":"done","result":{"a" : 1.50}}')
    assert outcome.result == msgspec.Raw(b'{"a" : 1.50}')
