"""Signatures: what they cover, what they survive, and what is said of secrets."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import (
    FlowHeader,
    FlowState,
    FlowStep,
    OnFailure,
    Reference,
    Returns,
    decode_header,
    encode_header,
    step_task,
    task_of,
)
from herdmaster.core.keys import Unique
from herdmaster.core.names import renewed_name
from herdmaster.core.options import Overrides
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome, encode_outcome, encode_result
from herdmaster.core.payload import (
    MAX_PAYLOAD,
    Call,
    Scheduled,
    after_loss,
    decode_call,
    encode_arguments,
    encode_call,
    for_next_run,
    for_replay,
    with_asked,
    with_attempt,
    with_due,
    with_error,
    with_expanded,
    with_isolation,
    with_saved,
    with_schedule,
    with_start,
    with_start_of_step,
)
from herdmaster.core.signing import UNBOUND, Keyring, SignedOnly, Unsigned, is_signed
from herdmaster.errors import BadPayload, BadSignature, PayloadTooLarge

TASK = "task-01arz3ndektsv4rrffq69g5fav.default"
OTHER = "task-01arz3ndektsv4rrffq69g5faw.default"
OLD, NEW = b"o" * 32, b"n" * 32
KEYS = Keyring({"new": NEW, "old": OLD})
FULL = Call(
    1,
    "m:f",
    *encode_arguments((1, "ä", [1.5]), {"k": {"x": None}}),
    outcome=False,
    expires=10**12,
    max_deliveries=3,
    ttl=5.0,
    keep=True,
    key="ab" * 16,
    unique=Unique("k"),
    options=Overrides(max_attempts=3),
    chunk=True,
    codec="cloudpickle",
    due=5,
    started="worker-a",
    asked=("worker-b",),
    alone=True,
    error=ErrorInfo("X"),
    scheduled=None,
    saved={"charge": msgspec.Raw(b"1")},
    traceparent="00-a-b-01",
    tracestate="a=b",
)
MOVES: list[Callable[[bytes], bytes]] = [
    with_attempt,
    with_isolation,
    lambda data: with_attempt(data, 10**12),
    lambda data: with_due(data, 10**12),
    lambda data: with_start(data, "worker-x"),
    lambda data: with_asked(data, "worker-y"),
    lambda data: after_loss(data, "worker-x"),
    lambda data: with_error(data, ErrorInfo("X", "why", "trace")),
    lambda data: with_expanded(data, 3),
    lambda data: with_expanded(data, 3, 100),
]


def signed(call: Call = FULL, keys: Keyring = KEYS, task: str = TASK) -> bytes:
    return keys.sign_task(task, encode_call(call))


def changed(data: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(data), **fields}, separators=(",", ":"), ensure_ascii=False).encode()


# --- what a signature covers -----------------------------------------------------------------------------------------


@pytest.mark.long
@given(st.lists(st.sampled_from(MOVES), max_size=8))
def test_a_signature_survives_every_change_that_a_role_makes(moves: list[Callable[[bytes], bytes]]) -> None:
    data = signed(Call(1, "m:f", *encode_arguments((1,), {}), expires=10**12, key="ab" * 16, unique=Unique("k")))
    for move in moves:
        data = move(data)

    KEYS.verify_task(TASK, data)
    assert decode_call(data).call == "m:f"


@pytest.mark.parametrize("field", Call.__struct_fields__)
def test_each_field_is_covered_but_those_that_roles_change(field: str) -> None:
    data = changed(signed())
    KEYS.verify_task(TASK, data)  # as this JSON has the form of ours
    other = {"herd": 2, "args": [2], "kwargs": {}, "scheduled": None}.get(field, "other")

    if field in UNBOUND - {"scheduled"}:
        KEYS.verify_task(TASK, changed(data, **{field: other}))
        return
    with pytest.raises(BadSignature):
        KEYS.verify_task(TASK, changed(data, **{field: other}))
    if field in json.loads(data):
        without = {name: value for name, value in json.loads(data).items() if name != field}
        with pytest.raises(BadSignature):
            KEYS.verify_task(TASK, json.dumps(without, separators=(",", ":"), ensure_ascii=False).encode())


def test_a_field_that_this_version_does_not_know_is_covered() -> None:
    data = KEYS.sign_task(TASK, changed(encode_call(FULL), future={"a": 1}))

    KEYS.verify_task(TASK, with_attempt(data))
    for other in (changed(data, future=2), changed(data, more=1)):
        with pytest.raises(BadSignature, match="wrong"):
            KEYS.verify_task(TASK, other)


def test_a_signature_is_of_one_task_in_one_queue_with_one_priority() -> None:
    for name in (OTHER, TASK.replace("default", "mail"), f"{TASK}.p9"):
        with pytest.raises(BadSignature, match="of another task"):
            KEYS.verify_task(name, signed())


@pytest.mark.parametrize("first", ["evil", "good"])
@pytest.mark.parametrize("name", ["call", "c\\u0061ll"])
def test_a_field_that_stands_there_twice_is_verified_as_it_is_read(first: str, name: str) -> None:
    data = signed(Call(1, "m:good", *encode_arguments((), {}))).decode()
    evil = f'"{name}":"m:evil"'
    twice = f"{{{evil},{data[1:]}" if first == "evil" else f"{data[:-1]},{evil}}}"
    try:
        KEYS.verify_task(TASK, twice.encode())
    except BadSignature:
        return
    assert decode_call(twice.encode()).call == "m:good"


@pytest.mark.parametrize("value", [None, 5, "x", {}, {"key": "new"}, {"key": "new", "mac": "0" * 63}, {"key": "a b"}])
def test_a_signature_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(BadSignature, match="cannot be read"):
        KEYS.verify_task(TASK, changed(encode_call(FULL), signature=value))


def test_a_missing_signature_and_an_unknown_key_are_named() -> None:
    with pytest.raises(BadSignature, match="is not signed"):
        KEYS.verify_task(TASK, encode_call(FULL))
    with pytest.raises(BadSignature, match="signed with the key next, and the keys here are new, old"):
        KEYS.verify_task(TASK, signed(keys=Keyring({"next": b"x" * 32})))
    with pytest.raises(BadSignature, match="or new is another secret"):
        KEYS.verify_task(TASK, signed(keys=Keyring({"new": b"x" * 32})))
    with pytest.raises(BadPayload, match="not JSON"):
        KEYS.verify_task(TASK, b"[")


def test_keys_rotate() -> None:
    before, during, after = Keyring({"old": OLD}), Keyring({"old": OLD, "new": NEW}), Keyring({"new": NEW})
    during.verify_task(TASK, signed(keys=before))
    before.verify_task(TASK, signed(keys=during))
    KEYS.verify_task(TASK, signed(keys=during))
    after.verify_task(TASK, signed(keys=KEYS))
    with pytest.raises(BadSignature):
        after.verify_task(TASK, signed(keys=before))


def test_signing_again_replaces_a_signature_and_keeps_the_limit_of_the_size() -> None:
    data = KEYS.sign_task(OTHER, signed())
    assert data.count(b'"signature"') == 1
    KEYS.verify_task(OTHER, data)
    assert len(data) == len(encode_call(FULL)) + KEYS.size

    room = MAX_PAYLOAD - len(encode_call(Call(1, "m:f", *encode_arguments(("",), {}))))
    with pytest.raises(PayloadTooLarge):
        signed(Call(1, "m:f", *encode_arguments(("x" * room,), {})))


def test_a_worker_signs_what_it_saves_and_others_can_neither_change_nor_add_it() -> None:
    largest = "x" * (MAX_PAYLOAD - len(signed(Call(1, "m:f", *encode_arguments(("",), {})))))
    for call in (Call(1, "m:f", *encode_arguments((1,), {})), Call(1, "m:f", *encode_arguments((largest,), {}))):
        data = signed(call)
        bare = with_saved(data, {"charge": msgspec.Raw(b'"paid"')})
        with pytest.raises(BadSignature):
            KEYS.verify_task(TASK, bare)
        saved = KEYS.sign_again(TASK, TASK, data, bare)
        KEYS.verify_task(TASK, with_attempt(saved))
        with pytest.raises(BadSignature):
            KEYS.verify_task(TASK, saved.replace(b'"paid"', b'"free"'))


# --- schedules and replays -------------------------------------------------------------------------------------------


def test_the_tasks_of_a_schedule_are_signed_for_it_and_the_primary_may_set_their_time() -> None:
    template = KEYS.sign_scheduled("nightly", "default", encode_call(Call(1, "m:f", *encode_arguments((), {}))))
    data = with_schedule(template, Scheduled("nightly", 5), 6, 10**12)

    KEYS.verify_task(TASK, with_attempt(data))
    KEYS.verify_task(OTHER, data)
    for bad in (with_schedule(template, Scheduled("hourly", 5), 6), changed(data, call="m:g"), template):
        with pytest.raises(BadSignature):
            KEYS.verify_task(TASK, bad)
    with pytest.raises(BadSignature):
        KEYS.verify_task(TASK.replace("default", "mail"), data)
    with pytest.raises(BadSignature):  # a task becomes none of a schedule
        KEYS.verify_task(TASK, with_schedule(signed(), Scheduled("nightly", 5), 6))


@pytest.mark.parametrize("with_key", [True, False])
@pytest.mark.parametrize("is_scheduled", [True, False])
def test_a_replay_verifies_and_signs_anew(is_scheduled: bool, with_key: bool) -> None:
    call = Call(1, "m:f", *encode_arguments((), {}), expires=5, key="ab" * 16, unique=Unique("k"))
    if is_scheduled:
        template = KEYS.sign_scheduled("nightly", "default", encode_call(call))
        data = with_schedule(template, Scheduled("nightly", 5), 6, 10**12)
    else:
        data = signed(call)
    data = with_error(with_attempt(data), ErrorInfo("X"))
    new = renewed_name(TASK, "01arz3ndektsv4rrffq69g5fax")
    fresh = KEYS.sign_again(TASK, new, data, for_replay(TASK, data, with_key=with_key))

    KEYS.verify_task(new, fresh)
    assert (decode_call(fresh).attempt, decode_call(fresh).key is None) == (1, not with_key)
    with pytest.raises(BadSignature):
        KEYS.sign_again(OTHER if not is_scheduled else OTHER.replace("default", "x"), new, data, fresh)


def test_a_signed_payload_is_known_as_one() -> None:
    assert is_signed(signed())
    assert not is_signed(encode_call(FULL))
    assert not is_signed(encode_call(Call(1, "m:f", *encode_arguments(("signature",), {"signature": 1}))))
    assert not is_signed(b'"signature"')


def test_raw_tasks_run_only_where_that_is_allowed() -> None:
    with pytest.raises(BadSignature, match="a raw task has no signature"):
        SignedOnly(KEYS).check_task("task-0000000001", b"x")
    SignedOnly(KEYS, Unsigned.RAW).check_task("task-0000000001", b"x")
    with pytest.raises(BadSignature, match="is not signed"):
        SignedOnly(KEYS, Unsigned.RAW).check_task(TASK, encode_call(FULL))


# --- outcomes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [5, "x" * 1000, {"signature": {"key": "new", "mac": "0" * 64}}])
def test_an_outcome_is_read_with_its_signature_and_without(value: object) -> None:
    plain = encode_outcome(TASK, Outcome(OutcomeState.DONE, encode_result(value), ttl=5.0))
    data = KEYS.sign_outcome(TASK, plain)

    assert SignedOnly(KEYS).read_outcome(TASK, data) == decode_outcome(TASK, plain) == decode_outcome(TASK, data)
    for name, other in ((OTHER, data), (TASK, data.replace(b'"ttl":5.0', b'"ttl":6.0')), (TASK, plain)):
        with pytest.raises(BadSignature):
            SignedOnly(KEYS).read_outcome(name, other)


def test_only_results_need_a_signature() -> None:
    cancelled = encode_outcome(TASK, Outcome(OutcomeState.CANCELLED))
    assert SignedOnly(KEYS).read_outcome(TASK, cancelled).state is OutcomeState.CANCELLED
    assert (
        SignedOnly(KEYS).read_outcome("task-0000000001", KEYS.sign_outcome("task-0000000001", b"done")).state
        is OutcomeState.DONE
    )


def test_while_keys_are_introduced_all_may_be_unsigned_and_nothing_signed_wrongly() -> None:
    lenient = SignedOnly(KEYS, Unsigned.ALL)
    lenient.check_task("task-0000000001", b"x")
    lenient.check_task(TASK, encode_call(FULL))
    lenient.check_task(TASK, signed())
    with pytest.raises(BadSignature):
        lenient.check_task(OTHER, signed())
    plain = encode_outcome(TASK, Outcome(OutcomeState.DONE, encode_result(5)))
    assert lenient.read_outcome(TASK, plain) == lenient.read_outcome(TASK, KEYS.sign_outcome(TASK, plain))
    with pytest.raises(BadSignature):
        lenient.read_outcome(OTHER, KEYS.sign_outcome(TASK, plain))


def test_a_keyring_shows_its_ids_only() -> None:
    keys = Keyring({"new": b"topsecret" * 9, "old": OLD})
    assert repr(keys) == "<Keyring of new, old>"
    assert "topsecret" not in repr(SignedOnly(keys))
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        pickle.dumps(keys)
    with pytest.raises(TypeError):
        msgspec.json.encode(SignedOnly(keys))


# --- steps of flows --------------------------------------------------------------------------------------------------

FLOW = "flow-01arz3ndektsv4rrffq69g5fav"
STEP = FlowStep(FLOW, "7", "f", step_task(1_700_000_000_000, FLOW, "7", "default", 5), joins=("8",))
OF_STEP = KEYS.sign_task(STEP.task, encode_call(Call(1, "m:f", *encode_arguments((None,), {}), flow=STEP)))


def test_a_step_is_started_and_run_again_by_programs_without_keys() -> None:
    data = OF_STEP
    for run in range(3):
        data = with_error(with_start_of_step(data, 10**12, ("3",)), ErrorInfo("X"))
        KEYS.verify_task(task_of(STEP, run), data)
        data = for_next_run(data)


def test_a_step_runs_under_no_other_name() -> None:
    for task in (TASK, task_of(STEP, 1), step_task(1_700_000_000_000, FLOW, "8", "default", 5)):
        with pytest.raises(BadSignature, match=r"is not the task of run 0 of step 7"):
            KEYS.verify_task(task, OF_STEP)
    with pytest.raises(BadSignature, match="cannot be read"):
        KEYS.verify_task(STEP.task, OF_STEP.replace(b'"step":"7"', b'"step":"/"'))


@pytest.mark.parametrize(
    "changed",
    [
        {"joins": ()}, {"step": "8"}, {"refs": (Reference(("args", 0), "9"),)}, {"name": "g"},
        {"flow": "flow-01arz3ndektsv4rrffq69g5faw"},
    ],
    ids=str,
)  # fmt: skip
def test_what_a_step_says_of_its_flow_is_covered(changed: dict[str, object]) -> None:
    def with_flow(flow: FlowStep) -> bytes:
        return msgspec.json.encode(msgspec.json.decode(OF_STEP) | {"flow": flow})

    KEYS.verify_task(STEP.task, with_flow(STEP))
    data = with_flow(msgspec.structs.replace(STEP, **changed))
    with pytest.raises(BadSignature, match="the signature of the payload is wrong"):
        KEYS.verify_task(STEP.task, data)


HEADER = FlowHeader(
    1, "f", 1_700_000_000_000, FlowState.BUILDING, 3, Returns(msgspec.Raw(b"[null, 1]"), (Reference((0,), "2"),))
)
CHANGED: dict[str, object] = {
    "herd": 2, "name": "g", "created": 1_700_000_000_001, "state": FlowState.DONE, "steps": 4,
    "returns": Returns(msgspec.Raw(b"[null, 2]"), (Reference((0,), "2"),)), "on_failure": OnFailure.STOP,
    "timeout": 0.1, "ttl": 1.5, "keep": True, "outcome": False,
    "key": "k", "retries": 1, "ended": 5, "error": ErrorInfo("X"),
    "parent": TASK, "child": True, "traceparent": "t", "tracestate": "s",
}  # fmt: skip


@pytest.mark.parametrize("field", sorted({*FlowHeader.__struct_fields__} - {"signature"}))
def test_what_no_role_changes_in_a_header_is_covered(field: str) -> None:
    changed = msgspec.structs.replace(KEYS.sign_header(FLOW, HEADER), **{field: CHANGED[field]})
    stored = decode_header(encode_header(changed)) if field != "herd" else changed
    if field in ("state", "retries", "ended", "error"):
        KEYS.verify_header(FLOW, stored)
    else:
        with pytest.raises(BadSignature, match="the signature of the header is wrong"):
            KEYS.verify_header(FLOW, stored)


def test_a_header_is_of_one_flow_and_unsigned_only_while_keys_are_introduced() -> None:
    signed = KEYS.sign_header(FLOW, HEADER)
    with pytest.raises(BadSignature, match="is wrong"):
        KEYS.verify_header(f"{FLOW}x", signed)
    with pytest.raises(BadSignature, match="is not signed"):
        SignedOnly(KEYS, Unsigned.RAW).check_header(FLOW, HEADER)
    SignedOnly(KEYS, Unsigned.ALL).check_header(FLOW, HEADER)
    with pytest.raises(BadSignature, match="is wrong"):
        SignedOnly(KEYS, Unsigned.ALL).check_header(FLOW, msgspec.structs.replace(signed, name="g"))
