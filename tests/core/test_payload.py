"""The envelope of a call."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import FlowStep
from herdmaster.core.names import call_name
from herdmaster.core.payload import (
    ENVELOPE_GROWTH,
    MAX_PAYLOAD,
    MAX_SAVED,
    Call,
    after_loss,
    decode_arguments,
    decode_call,
    encode_arguments,
    encode_call,
    for_next_run,
    for_replay,
    with_attempt,
    with_error,
    with_saved,
    with_start,
    with_start_of_step,
)
from herdmaster.errors import BadPayload, NotSerializable, PayloadTooLarge, SavedTooLarge
from tests.core.test_values import json_values

texts = st.text(st.characters(exclude_categories=["Cs"]))
WORKER = "worker-1a"


def made_call(*args: object, **kwargs: object) -> Call:
    return Call(1, "shop.tasks:resize", *encode_arguments(args, kwargs))


calls = st.builds(
    lambda name, arguments, rest: (Call(1, name, *encode_arguments(*arguments), **rest), arguments),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.tuples(st.lists(json_values, max_size=4), st.dictionaries(texts, json_values, max_size=4)),
    st.fixed_dictionaries(
        {},
        optional={
            "attempt": st.integers(1, 1000),
            "deliveries": st.integers(0, 1000),
            "started": st.none() | texts,
            "outcome": st.booleans(),
        },
    ),
)


@pytest.mark.long
@given(calls)
def test_a_call_comes_back_as_it_was(made: tuple[Call, tuple[list[object], dict[str, object]]]) -> None:
    call, arguments = made
    found = decode_call(encode_call(call))
    assert found == call
    assert decode_arguments(found) == arguments


def test_a_fresh_call_is_written_as_documented() -> None:
    assert encode_call(made_call("a.png", width=640)) == (
        b'{"herd":1,"call":"shop.tasks:resize","args":["a.png"],"kwargs":{"width":640},"attempt":1,"deliveries":0}'
    )


def test_a_call_without_a_waiter_says_so() -> None:
    silent = Call(1, "m:f", *encode_arguments((), {}), outcome=False)
    assert encode_call(silent).endswith(b'"deliveries":0,"outcome":false}')


def test_absent_counts_are_a_first_attempt_without_deliveries() -> None:
    found = decode_call(b' { "herd" : 1, "kwargs": {} , "args": [ ] , "call": "m:f" } ')
    assert (found.attempt, found.deliveries, found.started, found.outcome) == (1, 0, None, True)
    assert decode_arguments(found) == ([], {})


VALID = encode_call(made_call(1, "a", width=640))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"Sample task", "not JSON"),
        (b"\x00\x01", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", '"herd":1'),
        (b"null", '"herd":1'),
        (b"{}", '"herd":1'),
        (b'{"herd":true}', '"herd":1'),
        (b'{"herd":"1"}', '"herd":1'),
        (b'{"herd":2}', "version 2.*upgrade"),
        (VALID.replace(b'"herd":1', b'"herd":2'), "version 2.*upgrade"),
        (b'{"herd":1,"args":[],"kwargs":{}}', "`call`"),
        (VALID.replace(b'"shop.tasks:resize"', b'""'), "`\\$.call`"),
        (VALID.replace(b'"shop.tasks:resize"', b'"\xff"'), "not JSON"),
        (VALID.replace(b'[1,"a"]', b'{"0":1}'), "`args`.*list"),
        (VALID.replace(b'[1,"a"]', b"null"), "`args`.*list"),
        (VALID.replace(b'{"width":640}', b"[]"), "`kwargs`.*object"),
        (VALID.replace(b'"attempt":1', b'"attempt":0'), "attempt"),
        (VALID.replace(b'"attempt":1', b'"attempt":"1"'), "attempt"),
        (VALID.replace(b'"deliveries":0', b'"deliveries":-1'), "deliveries"),
        (VALID + b"x", "not JSON"),
        (VALID.replace(b'"a"', b'"\\ud800"'), "not JSON"),
        (VALID.replace(b"[1,", b"[NaN,"), "not JSON"),
        (VALID.replace(b'[1,"a"]', b"[" * 100_000 + b"]" * 100_000), "not JSON.*recursion"),
        (VALID.replace(b'"a"', b'"' + b"a" * MAX_PAYLOAD + b"a" * ENVELOPE_GROWTH + b'"'), "at most 524288"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_everything_else_is_refused_with_one_sentence(data: bytes, reason: str) -> None:
    for read in (
        decode_call,
        with_attempt,
        lambda d: with_start(d, WORKER),
        lambda d: after_loss(d, WORKER),
    ):
        with pytest.raises(BadPayload, match=reason) as caught:
            read(data)
        assert "\n" not in str(caught.value)


@given(st.integers(0, len(VALID) - 1))
def test_a_truncated_payload_is_refused(length: int) -> None:
    with pytest.raises(BadPayload):
        decode_call(VALID[:length])


@given(
    st.binary(max_size=200)
    | st.integers(0, len(VALID)).flatmap(lambda n: st.binary(max_size=3).map(lambda b: VALID[:n] + b + VALID[n + 1 :]))
)
def test_garbage_raises_bad_payload_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(BadPayload):
        decode_arguments(decode_call(data))


def test_arguments_that_only_fail_inside_are_refused_when_they_are_read() -> None:
    with pytest.raises(BadPayload, match="arguments"):
        decode_arguments(decode_call(VALID.replace(b'[1,"a"]', b"[1e999]")))


@pytest.mark.parametrize("old", [b'[1,"a"]', b'"herd"'])
def test_bytes_that_are_not_utf_8_are_refused_wherever_they_are(old: bytes) -> None:
    """Also in a field that this version does not know: the payload is rewritten with it."""
    new = b'["\xff"]' if old != b'"herd"' else b'"\xff":1,"herd"'
    with pytest.raises(BadPayload, match="not JSON that can be read: 'utf-8'"):
        decode_call(VALID.replace(old, new))


def test_a_payload_may_have_512_kib_and_not_a_byte_more() -> None:
    frame = len(encode_call(made_call("")))
    assert len(encode_call(made_call("x" * (MAX_PAYLOAD - frame)))) == MAX_PAYLOAD
    with pytest.raises(PayloadTooLarge, match=f"{MAX_PAYLOAD + 1} bytes, at most {MAX_PAYLOAD}"):
        encode_call(made_call("x" * (MAX_PAYLOAD - frame + 1)))


def test_the_largest_payload_can_still_be_counted_up_and_read() -> None:
    data = encode_call(made_call("x" * (MAX_PAYLOAD - len(encode_call(made_call(""))))))
    worker = "worker-" + "f" * 190
    for _ in range(20):
        data = with_start(with_attempt(after_loss(data, worker)), worker)
    assert decode_call(data).deliveries == 20


@pytest.mark.parametrize(
    ("args", "kwargs", "name"),
    [
        ((1, object()), {}, r"argument 2 \(a object\)"),
        ((math.nan,), {"a": 1}, r"argument 1 \(a float\)"),
        ((None,), {"a": None, "rate": math.inf}, r"argument rate= \(a float\)"),
        ((), {"a": {(1, 2): 3}}, r"argument a= \(a dict\)"),
    ],
)
def test_an_argument_that_json_cannot_say_is_named(
    args: tuple[object, ...], kwargs: dict[str, object], name: str
) -> None:
    with pytest.raises(NotSerializable, match=name):
        encode_arguments(args, kwargs)
    with pytest.raises(TypeError, match=name):
        encode_arguments(args, kwargs)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "attempt": with_attempt,
    "start": lambda data: with_start(data, WORKER),
    "loss": lambda data: after_loss(data, WORKER),
}
changes = st.lists(st.sampled_from(sorted(CHANGES)), max_size=6)


@pytest.mark.long
@given(st.dictionaries(texts.filter(lambda name: name not in Call.__struct_fields__), json_values, max_size=5), changes)
def test_fields_of_a_newer_version_survive_every_change(extra: dict[str, object], made: list[str]) -> None:
    fields = {**msgspec.json.decode(VALID), **extra}
    data = msgspec.json.encode(fields)
    for change in made:
        data = CHANGES[change](data)
    found = msgspec.json.decode(data)
    for name in ("attempt", "deliveries", "started"):
        found.pop(name, None)
        fields.pop(name, None)
    assert found == fields


def test_a_field_is_kept_byte_for_byte() -> None:
    odd = b'{"a" : 1.50, "a": [ ]}'
    assert odd in after_loss(VALID[:-1] + b',"conditions":' + odd + b"}", WORKER)


def test_a_new_attempt_counts_up_and_forgets_the_start() -> None:
    found = decode_call(with_attempt(with_start(VALID, WORKER)))
    assert (found.attempt, found.deliveries, found.started) == (2, 0, None)


def test_a_dead_task_keeps_the_essence_of_its_error_until_it_is_replayed() -> None:
    info = ErrorInfo("m.E", "m" * 2000, "Traceback\n" + "t" * 9000 + "\nend", ("m", 1))
    error = decode_call(with_error(VALID, info)).error

    assert error is not None
    assert (error.type, error.args) == ("m.E", None)
    assert len(error.message) <= 1024
    assert len(error.traceback) <= 4096
    assert error.traceback.startswith("Traceback\n...")
    assert error.traceback.endswith("t\nend")
    task = call_name("01jd0000000000000000000001")
    assert decode_call(for_replay(task, with_error(VALID, info))) == decode_call(for_replay(task, VALID))


@pytest.mark.parametrize("data", [b"", b"garbage", b"[]", b'{"herd":2}', b"[" * 100_000, b"\xff"])
def test_what_is_no_call_is_buried_as_it_is(data: bytes) -> None:
    assert with_error(data, ErrorInfo("E", "no", "Traceback")) == data


def test_of_an_error_that_does_not_fit_the_traceback_is_left_out_or_all_of_it() -> None:
    worst = ErrorInfo("E", "m", "\x01" * 4096)
    assert decode_call(with_error(VALID, worst)).error == worst
    largest = encode_call(made_call("x" * (MAX_PAYLOAD - len(encode_call(made_call(""))))))
    buried = with_error(largest, worst)
    assert decode_call(buried).error == ErrorInfo("E", "m")
    assert decode_call(with_error(largest, ErrorInfo("E", "m", "t" * 9000))).error is not None
    full = largest[:-1] + b',"more":"' + b"x" * (MAX_PAYLOAD + ENVELOPE_GROWTH - len(largest) - 20) + b'"}'
    assert with_error(full, worst) == full


def test_saved_results_stay_through_everything_that_happens_to_a_task() -> None:
    saved = {"charge": msgspec.Raw(b'{"id" : 1.50}'), "mail": msgspec.Raw(b"null")}
    data = with_saved(VALID, saved)
    assert b'"saved":{"charge":{"id" : 1.50},"mail":null}' in data
    for changed in (
        with_attempt(data), with_start(data, WORKER), after_loss(data, WORKER), with_error(data, ErrorInfo("E")),
        for_replay(call_name("01jd0000000000000000000001"), data),
    ):  # fmt: skip
        assert decode_call(changed).saved == saved


def test_saved_results_may_have_16_kib_together_with_their_names() -> None:
    room = MAX_SAVED - len(b'{"a":""}')
    largest = encode_call(made_call("x" * (MAX_PAYLOAD - len(encode_call(made_call(""))))))
    full = with_saved(largest, {"a": msgspec.Raw(b'"%s"' % (b"x" * room))})
    assert decode_call(with_error(full, ErrorInfo("E", "m", "t" * 4000))).error is not None
    with pytest.raises(SavedTooLarge, match=f"{MAX_SAVED + 1} bytes together, at most {MAX_SAVED}"):
        with_saved(VALID, {"a": msgspec.Raw(b'"%s"' % (b"x" * (room + 1)))})


def test_a_marked_start_names_the_worker() -> None:
    assert decode_call(with_start(VALID, WORKER)).started == WORKER


def test_the_first_loss_of_a_worker_is_always_charged() -> None:
    assert decode_call(after_loss(VALID, WORKER)).deliveries == 1


def test_a_further_loss_is_charged_only_if_that_worker_had_started_the_task() -> None:
    once = after_loss(VALID, WORKER)
    assert after_loss(once, WORKER) == once
    assert after_loss(with_start(once, "worker-other"), WORKER) == with_start(once, "worker-other")
    found = decode_call(after_loss(with_start(once, WORKER), WORKER))
    assert (found.deliveries, found.attempt, found.started) == (2, 1, None)


# --- steps of flows --------------------------------------------------------------------------------------------------


def test_a_step_starts_when_its_parents_are_over_and_says_which_are_missing() -> None:
    data = encode_call(made_call(1))
    call = decode_call(with_start_of_step(data, 5, ("1", "2")))
    assert (call.due, call.missing) == (5, ("1", "2"))
    assert decode_call(with_start_of_step(data, 5)) == msgspec.structs.replace(decode_call(data), due=5)


def test_the_next_run_of_a_step_is_a_first_attempt_that_keeps_what_was_saved() -> None:
    step = FlowStep("flow-01arz3ndektsv4rrffq69g5fav", "7", "f", call_name("01arz3ndektsv4rrffq69g5fav", step=True))
    call = msgspec.structs.replace(
        made_call(1), flow=step, saved={"charge": msgspec.Raw(b"1")}, missing=("2",), expires=9
    )
    dead = with_error(with_start(with_attempt(encode_call(call)), WORKER), ErrorInfo("X"))
    assert decode_call(for_next_run(dead)) == msgspec.structs.replace(call, run=1)
    assert decode_call(for_next_run(for_next_run(dead))).run == 2
    with pytest.raises(BadPayload):
        for_next_run(b"x")
