"""Changes of the task of a schedule: it becomes as if it had been declared so, and what is not given stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from herdmaster import ConfigurationError, HerdError
from herdmaster.api.callee import Callee, callee_of
from herdmaster.api.declarations import declare, signed
from herdmaster.api.options import TaskOptions
from herdmaster.api.schedule_edits import check_task_edit
from herdmaster.api.schedule_options import check_schedule
from herdmaster.core.payload import decode_call, with_fields
from herdmaster.core.schedules import Schedule
from herdmaster.core.signing import Keyring
from herdmaster.errors import InvalidName, WrongArguments

CALL = Callee("shop:warm")
EVERY = check_schedule({"every": 60})
STORED = {
    "queue": "slow", "priority": 3, "expires": 60, "timeout": 9, "max_attempts": 2, "soft_timeout": 5, "key": "k",
    "key_scope": "global", "key_holds": "always", "keep_outcome": 60,
}  # fmt: skip
KEYS = Keyring({"a": b"x" * 32})


def declared(options: Mapping[str, object], args: tuple[object, ...] = ("eu",)) -> Schedule:
    return msgspec.structs.replace(
        declare(CALL, args, {}, TaskOptions().changed(options), EVERY).schedule(None), id="0a1b2c3d"
    )


def edited(before: Schedule, given: Mapping[str, object], **more: Any) -> Schedule:
    return check_task_edit(CALL, given, **more).applied("warm-eu", before)


def parts(schedule: Schedule) -> tuple[object, ...]:
    """What a schedule says, whatever the order of the fields of its payload."""
    return decode_call(bytes(schedule.payload)), msgspec.structs.replace(schedule, payload=msgspec.Raw(b""))


@pytest.mark.parametrize("before", [{}, STORED], ids=["bare", "full"])
@pytest.mark.parametrize(
    "given",
    [
        {"queue": "fast"},
        {"priority": 9, "expires": 5},
        {"timeout": 30},
        {"max_attempts": 7},
        {"key": "other", "key_scope": "call", "key_holds": "done"},
        {"keep_outcome": 5},
    ],
    ids="-".join,
)
def test_a_task_becomes_as_if_it_had_been_declared_so(before: dict[str, object], given: dict[str, object]) -> None:
    assert parts(edited(declared(before), given)) == parts(declared({**before, **given}))


def test_what_is_taken_back_has_its_default() -> None:
    given = {name: None for name in STORED if name != "soft_timeout"}
    assert parts(edited(declared(STORED), given)) == parts(declared({"soft_timeout": 5}))


def test_options_of_the_function_apply_again() -> None:
    base = TaskOptions(queue="own", priority=8)
    edit = check_task_edit(CALL, {"queue": None, "priority": None}, base=base)
    assert parts(edit.applied("warm-eu", declared(STORED))) == parts(
        declared({**STORED, "queue": "own", "priority": 8})
    )


def test_the_scope_of_a_key_changes_without_the_key() -> None:
    changed = edited(declared(STORED), {"key_scope": "call"})
    assert parts(changed) == parts(declared({**STORED, "key_scope": "call"}))


def test_arguments_are_replaced_as_a_whole() -> None:
    assert parts(edited(declared(STORED), {}, args=("us", 2))) == parts(declared(STORED, ("us", 2)))
    assert decode_call(bytes(edited(declared({}), {}, kwargs={"a": 1}).payload)).args == msgspec.Raw(b"[]")


def test_what_changes_nothing_is_the_same_schedule() -> None:
    before = signed("warm-eu", declared(STORED), KEYS)
    assert edited(before, {"queue": "slow", "timeout": 9, "key": "k"}, keyring=KEYS) == before


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"queue": "Bad Queue"}, InvalidName),
        ({"priority": 10}, InvalidName),
        ({"timeout": -1}, ConfigurationError),
        ({"key": ""}, ConfigurationError),
        ({"key": str}, ConfigurationError),
    ],
)
def test_a_value_that_cannot_work_is_refused(given: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        check_task_edit(CALL, given)


def test_arguments_are_checked_against_the_function() -> None:
    def warm(region: str) -> None: ...

    with pytest.raises(WrongArguments):
        check_task_edit(callee_of("shop:warm", warm, None), {}, ("eu", "us"))


@pytest.mark.parametrize(
    ("before", "given", "message"),
    [
        ({}, {"key_scope": "global"}, "has no key: give key= as well"),
        ({"key": "k" * 600}, {"key_scope": "global"}, "only a part of the key"),
        ({"ignore_result": True}, {"keep_outcome": True}, "has no outcome to keep"),
    ],
)
def test_what_does_not_go_with_the_stored_task_is_refused(
    before: dict[str, object], given: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        edited(declared(before), given)


def test_a_schedule_of_another_function_is_not_edited() -> None:
    edit = check_task_edit(Callee("shop:cool"), {"queue": "fast"})
    with pytest.raises(HerdError, match="has become one of shop:warm"):
        edit.applied("warm-eu", declared({}))


def test_arguments_of_a_codec_are_written_by_it_or_not_at_all() -> None:
    stored = declared({})
    coded = msgspec.structs.replace(stored, payload=msgspec.Raw(with_fields(bytes(stored.payload), codec="pickle")))
    with pytest.raises(ConfigurationError, match="written by the codec 'pickle'"):
        edited(coded, {}, args=("us",))


def test_a_signed_task_is_signed_for_its_new_queue() -> None:
    changed = edited(signed("warm-eu", declared({}), KEYS), {"queue": "fast"}, keyring=KEYS)
    KEYS.verify_scheduled("warm-eu", "fast", bytes(changed.payload))
    assert parts(changed)[1] == parts(declared({"queue": "fast"}))[1]


@pytest.mark.parametrize(
    ("signed_as", "keyring", "message"),
    [
        ("warm-eu", None, "give the signing keys"),
        ("warm-us", KEYS, "is not edited: the signature of the task is wrong"),
        (None, KEYS, "is not edited: its task is not signed"),
        ("warm-eu", Keyring({"b": b"y" * 32}), "signed with the key a"),
    ],
)
def test_no_edit_signs_what_was_not_signed(signed_as: str | None, keyring: Keyring | None, message: str) -> None:
    stored = declared({}) if signed_as is None else signed(signed_as, declared({}), KEYS)
    with pytest.raises(HerdError, match=message):
        edited(stored, {"queue": "fast"}, keyring=keyring)
