from __future__ import annotations

import pytest

from herdmaster.core.endings import CANCELLED, EXPIRED, Ending, encode_ending, failed, too_large, unreadable
from herdmaster.core.outcome import OutcomeState, decode_outcome
from herdmaster.core.payload import Call, encode_arguments, encode_call

RAW = "task-0000000001"
CALL = "task-01arz3ndektsv4rrffq69g5fav.default"
HOSTILE = [b"", b"garbage", b"[" * 100_000, b'{"herd":2}', b'{"herd":1,"ttl":"x"}', b"\xff", b"9" * 5000]


def payload() -> bytes:
    return encode_call(Call(1, "m:f", *encode_arguments((), {}), attempt=3, key="abc", ttl=5.0, keep=True))


@pytest.mark.parametrize("ending", [CANCELLED, EXPIRED, failed("X", "why")])
def test_what_the_payload_wants_of_its_outcome_goes_into_it(ending: Ending) -> None:
    outcome = decode_outcome(CALL, encode_ending(CALL, payload(), ending))
    assert (outcome.key, outcome.ttl, outcome.keep, outcome.attempt) == ("abc", 5.0, True, 3)
    assert (outcome.state, outcome.error) == (ending.state, ending.error)


def test_each_has_a_reason() -> None:
    assert CANCELLED.reason.type == "TaskCancelled"
    assert EXPIRED.reason.type == "TaskExpired"
    assert failed("WorkerLost", "why").reason.message == "why"
    assert unreadable(ValueError("x")).state is too_large(600_000).state is OutcomeState.FAILED


@pytest.mark.parametrize("data", HOSTILE)
def test_a_payload_that_cannot_be_read_says_nothing(data: bytes) -> None:
    outcome = decode_outcome(CALL, encode_ending(CALL, data, CANCELLED))

    assert (outcome.state, outcome.key, outcome.ttl, outcome.keep) == (OutcomeState.CANCELLED, None, None, False)


def test_a_raw_task_is_answered_raw() -> None:
    assert encode_ending(RAW, payload(), CANCELLED) == b"failed: TaskCancelled"
    assert encode_ending(RAW, b"", EXPIRED) == b"failed: TaskExpired"
    assert encode_ending(RAW, b"", failed("WorkerLost", "why")) == b"failed: WorkerLost"
