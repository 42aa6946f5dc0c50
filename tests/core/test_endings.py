from __future__ import annotations

import pytest

from herdmaster.core.endings import cancelled, expired, failed, too_large, unreadable
from herdmaster.core.outcome import OutcomeState, decode_outcome
from herdmaster.core.payload import Call, encode_arguments, encode_call

RAW = "task-0000000001"
CALL = "task-01arz3ndektsv4rrffq69g5fav.default"
HOSTILE = [b"", b"garbage", b"[" * 100_000, b'{"herd":2}', b'{"herd":1,"ttl":"x"}', b"\xff", b"9" * 5000]


def payload() -> bytes:
    return encode_call(Call(1, "m:f", *encode_arguments((), {}), attempt=3, key="abc", ttl=5.0, keep=True))


def test_what_the_payload_wants_of_its_outcome_goes_into_it() -> None:
    for data in (cancelled(CALL, payload()), expired(CALL, payload()), failed(CALL, payload(), "X", "why")):
        outcome = decode_outcome(CALL, data)
        assert (outcome.key, outcome.ttl, outcome.keep, outcome.attempt) == ("abc", 5.0, True, 3)


def test_each_says_what_the_task_ended_as() -> None:
    assert decode_outcome(CALL, cancelled(CALL, payload())).state is OutcomeState.CANCELLED
    assert decode_outcome(CALL, expired(CALL, payload())).state is OutcomeState.EXPIRED
    error = decode_outcome(CALL, failed(CALL, payload(), "WorkerLost", "why")).error
    assert error is not None
    assert (error.type, error.message) == ("WorkerLost", "why")
    assert decode_outcome(CALL, unreadable(CALL, ValueError("x"))).state is OutcomeState.FAILED
    assert decode_outcome(CALL, too_large(CALL, 600_000)).state is OutcomeState.FAILED


@pytest.mark.parametrize("data", HOSTILE)
def test_a_payload_that_cannot_be_read_says_nothing(data: bytes) -> None:
    outcome = decode_outcome(CALL, cancelled(CALL, data))

    assert (outcome.state, outcome.key, outcome.ttl, outcome.keep) == (OutcomeState.CANCELLED, None, None, False)


def test_a_raw_task_is_answered_raw() -> None:
    assert cancelled(RAW, payload()) == b"failed: TaskCancelled"
    assert expired(RAW, b"") == b"failed: TaskExpired"
    assert failed(RAW, b"", "WorkerLost", "why") == b"failed: WorkerLost"
