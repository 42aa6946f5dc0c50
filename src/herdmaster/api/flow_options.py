"""The options of a flow, and their checks."""

from __future__ import annotations

from typing import Final, Literal, TypedDict

import msgspec

from herdmaster.api.checks import check_choice, check_flag, check_seconds, is_text
from herdmaster.api.options import Duration, OnDuplicate
from herdmaster.core.flows import OnFailure
from herdmaster.errors import ConfigurationError

MAX_NAME: Final = 200


class FlowOptions(TypedDict, total=False):
    """The options of `herd.flow(...)`. Durations are in seconds, or timedeltas.

    - `timeout`: how long the flow may run; then it ends as expired. `on_failure`: when a step has failed, the rest
      goes on as far as it can ("finish", the default), or running steps are cancelled and no others start ("stop").
    - `ttl`: how long the flow and the results of its steps are kept after its end, also for `herd flows retry`.
      `keep_outcome`: any number of programs may read the outcome in that time; a duration is also the `ttl`.
    - `key`: text. While there is a flow of this name with the same key, a submission makes no other:
      `on_duplicate="return"` returns the future of that one, `"error"` raises DuplicateTask.
    - `child`: the flow is submitted by a task, and is cancelled when that task is cancelled.
    """

    timeout: Duration | None
    ttl: Duration | None
    keep_outcome: bool | Duration
    on_failure: Literal["finish", "stop"]
    key: str | None
    on_duplicate: Literal["return", "error"]
    child: bool


class CheckedFlow(msgspec.Struct, frozen=True):
    """Options of a flow that have been checked. Times are in seconds."""

    name: str
    timeout: float | None = None
    ttl: float | None = None
    keep: bool = False
    on_failure: OnFailure = OnFailure.FINISH
    key: str | None = None
    on_duplicate: OnDuplicate = OnDuplicate.RETURN
    child: bool = False


def check_flow(name: object, options: FlowOptions) -> CheckedFlow:
    """Return the options of a flow. Raises ConfigurationError, TypeError for an unknown option."""
    if not is_text(name) or len(name) > MAX_NAME:
        raise ConfigurationError(f"{name!r} is no name of a flow: it is text of 1 to {MAX_NAME} characters")
    unknown = options.keys() - FlowOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(FlowOptions.__annotations__)
        raise TypeError(f"{unknown.pop()}= is no option of a flow: the options are {known}")
    key = _key(options.get("key"))
    keep = options.get("keep_outcome", False)
    ttl = _seconds("ttl", options.get("ttl"))
    if not isinstance(keep, bool):
        if ttl is not None:
            raise ConfigurationError("keep_outcome= and ttl= both say how long: leave the time to one of them")
        ttl = _seconds("keep_outcome", keep)
    return CheckedFlow(
        name,
        _seconds("timeout", options.get("timeout")),
        ttl,
        keep is not False,
        check_choice("on_failure", options.get("on_failure", OnFailure.FINISH), OnFailure),
        key,
        check_choice("on_duplicate", options.get("on_duplicate", OnDuplicate.RETURN), OnDuplicate),
        check_flag("child", options.get("child", False)),
    )


def _key(value: object) -> str | None:
    if value is None or is_text(value):
        return value
    raise ConfigurationError(f"key={value!r}: it takes text that is not empty, without lone surrogates")


def _seconds(name: str, value: object) -> float | None:
    return None if value is None else check_seconds(name, value, zero=False)
