"""Changes of the task that a stored schedule makes: its queue and priority, its options, its key, its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from herdmaster.api.callee import Callee
from herdmaster.api.declarations import refuse_times
from herdmaster.api.options import Duration, TaskOptions
from herdmaster.api.order import claim_key
from herdmaster.api.schedule_options import ScheduleOptions
from herdmaster.core.codec import write_arguments
from herdmaster.core.keys import KeyHolds, KeyScope, Unique, hash_key
from herdmaster.core.options import Overrides
from herdmaster.core.payload import Call, with_fields
from herdmaster.core.schedules import Schedule
from herdmaster.core.signing import Keyring, is_signed
from herdmaster.errors import BadSignature, ConfigurationError, HerdError


class ScheduleEditOptions(ScheduleOptions, total=False):
    """The options that `herd.schedules.edit` changes: those of the schedule, and these of its task, which are as in
    `Options`. A key is text, and `expires` a duration. None takes an option back."""

    queue: str | None
    priority: int | None
    expires: Duration | None
    timeout: Duration | None
    max_attempts: int | None
    key: str | None
    key_scope: Literal["call", "global"] | None
    key_holds: Literal["done", "always"] | None
    keep_outcome: bool | Duration | None


TASK_OPTIONS: Final = tuple(
    name for name in ScheduleEditOptions.__annotations__ if name not in ScheduleOptions.__annotations__
)
_OF_SCHEDULE: Final = {"queue": "queue", "priority": "priority", "expires": "expires_ms"}
_OF_RUN: Final = ("timeout", "max_attempts")
_OF_KEY: Final = frozenset({"key", "key_scope", "key_holds"})


class TaskEdit(msgspec.Struct, frozen=True):
    """A checked change of the task of a schedule. `names` are the options that change, `options` has their values.
    `written` are the new arguments; None leaves them as they are. `keyring` signs the task again."""

    callee: Callee
    names: frozenset[str]
    options: TaskOptions
    written: tuple[msgspec.Raw, msgspec.Raw] | None = None
    keyring: Keyring | None = None

    def applied(self, name: str, schedule: Schedule) -> Schedule:
        """Return the schedule with the change. It may be called several times, with newer schedules.

        Raises ConfigurationError for options that do not go with those that stay, HerdError for a schedule that makes
        another task than the one that was checked, or whose signature does not allow a change."""
        call = schedule.call
        if call.call != self.callee.call:
            raise HerdError(f"schedule {name!r} has become one of {call.call}: look at it, and edit it again")
        fields = {
            field: getattr(self.options, option) for option, field in _OF_SCHEDULE.items() if option in self.names
        }
        payload = with_fields(bytes(schedule.payload), **self._arguments(name, call), **self._fields(name, call))
        changed = msgspec.structs.replace(schedule, payload=msgspec.Raw(payload), **fields)
        if changed.queue == schedule.queue and payload == with_fields(bytes(schedule.payload)):
            return msgspec.structs.replace(changed, payload=schedule.payload)
        return self._signed(name, schedule, changed)

    def _arguments(self, name: str, call: Call) -> dict[str, object]:
        if self.written is None:
            return {}
        codec = None if self.callee.codec is None else self.callee.codec.name
        if call.codec is not None and codec is None:
            raise ConfigurationError(
                f"the arguments of schedule {name!r} are written by the codec {call.codec!r}: edit them where the app "
                "can be imported"
            )
        return {"args": self.written[0], "kwargs": self.written[1], "codec": codec}

    def _fields(self, name: str, call: Call) -> dict[str, object]:
        fields: dict[str, object] = {}
        run = {option: getattr(self.options.overrides, option) for option in _OF_RUN if option in self.names}
        if run:
            overrides = msgspec.structs.replace(call.options or Overrides(), **run)
            fields["options"] = None if overrides == Overrides() else overrides
        if "keep_outcome" in self.names:
            if self.options.keep_outcome and not call.outcome:
                raise ConfigurationError(
                    f"the task of schedule {name!r} has no outcome to keep: leave keep_outcome= out"
                )
            fields |= {"keep": self.options.keep_outcome or None, "ttl": self.options.outcome_ttl}
        if self.names & _OF_KEY:
            fields |= self._key(name, call)
        return fields

    def _key(self, name: str, call: Call) -> dict[str, object]:
        stored = call.unique
        key = self.options.key if "key" in self.names else _stored_key(name, call)
        if key is None:
            if "key" not in self.names:
                raise ConfigurationError(f"schedule {name!r} has no key: give key= as well")
            return {"key": None, "unique": None}
        assert isinstance(key, str)
        try:
            scope = self.options.key_scope if stored is None or "key_scope" in self.names else KeyScope(stored.scope)
            holds = self.options.key_holds if stored is None or "key_holds" in self.names else KeyHolds(stored.holds)
        except ValueError:
            raise HerdError(f"the key of schedule {name!r} was stored by a later version: upgrade this one") from None
        claim = claim_key(key, call.call, msgspec.structs.replace(self.options, key_scope=scope, key_holds=holds))
        return {"key": claim.hash, "unique": claim.unique}

    def _signed(self, name: str, before: Schedule, changed: Schedule) -> Schedule:
        payload = bytes(before.payload)
        if self.keyring is None:
            if is_signed(payload):
                raise HerdError(
                    f"the task of schedule {name!r} is signed, and a change of it has to be, too: give the signing keys"
                )
            return changed
        try:
            self.keyring.verify_scheduled(name, before.queue, payload)
        except BadSignature as error:
            raise HerdError(f"schedule {name!r} is not edited: {error}. Remove it, and add it again") from None
        signed = self.keyring.sign_scheduled(name, changed.queue, bytes(changed.payload))
        return msgspec.structs.replace(changed, payload=msgspec.Raw(signed))


def _stored_key(name: str, call: Call) -> str | None:
    """Return the text of the key. Raises ConfigurationError for one that is stored in part."""
    unique: Unique | None = call.unique
    if call.key is None or unique is None:
        return None
    if call.key not in (hash_key(unique.key), hash_key(unique.key, call.call)):
        raise ConfigurationError(f"only a part of the key of schedule {name!r} is stored: give key= as well")
    return unique.key


def check_task_changes(given: Mapping[str, object], base: TaskOptions) -> TaskOptions:
    """Return the options of a task with some changed, as `check_task_edit`."""
    options = base.changed({name: value for name, value in given.items() if value is not None})
    refuse_times(options)
    if "key" in given and callable(options.key):
        raise ConfigurationError("the key of a schedule that is edited is text: give key= as text")
    return options


def check_task_edit(
    callee: Callee,
    given: Mapping[str, object],
    args: Sequence[object] | None = None,
    kwargs: Mapping[str, object] | None = None,
    *,
    base: TaskOptions | None = None,
    keyring: Keyring | None = None,
) -> TaskEdit:
    """Return the change of a task. `given` are some of `TASK_OPTIONS`; None stands for that of `base`, the options of
    the function. `args` and `kwargs` together are the new arguments; None and None leave them.

    Raises ConfigurationError and InvalidName for options that cannot work, and as `order_call` for the arguments."""
    options = check_task_changes(given, base or TaskOptions())
    written = None
    if args is not None or kwargs is not None:
        written = write_arguments(args or (), kwargs or {}, callee.signature, callee.codec)
    return TaskEdit(callee, frozenset(given), options, written, keyring)
