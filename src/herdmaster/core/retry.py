"""Whether a task whose code raised is tried again, and when. Pure: chance is a parameter.

A retry waits a random time between nothing and a bound that doubles with each attempt (full jitter), so that tasks that
failed together do not come back together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from herdmaster.core.failure import ErrorInfo, error_info, type_name
from herdmaster.core.options import RunOptions
from herdmaster.errors import HerdError, Retry

MAX_LINEAGE: Final = 32
_MAX_DOUBLINGS: Final = 64


class Raised(msgspec.Struct, frozen=True, tag="raised"):
    """What a task's code raised: `lineage` are the names of its class and of that's bases, as in `ErrorInfo.type`.
    `is_ordinary`: an `Exception`, not a SystemExit, say. `asked` and `after` (seconds): it was `Retry`, which may say
    when. `is_final`: Herdmaster raised it, not the code, and every further attempt would end like this one.
    `hook_called`: the hook for errors has been called with it.
    """

    error: ErrorInfo
    lineage: tuple[str, ...]
    is_ordinary: bool = True
    asked: bool = False
    after: float | None = None
    is_final: bool = False
    hook_called: bool = False


def raised(error: BaseException, info: ErrorInfo) -> Raised:
    """An exception as what a decision about it needs."""
    lineage = tuple(type_name(kind) for kind in type(error).__mro__[:MAX_LINEAGE] if kind is not object)
    is_retry = isinstance(error, Retry)
    after = error.after if isinstance(error, Retry) else None
    return Raised(info, lineage, isinstance(error, Exception), is_retry, after)


def refused(error: HerdError) -> Raised:
    """What Herdmaster itself finds wrong with a task or its result: its traceback would not help the user."""
    info = error_info(error)
    return Raised(ErrorInfo(type(error).__name__, info.message, args=info.args), (), is_final=True)


def seconds_until_retry(
    options: RunOptions, attempt: int, what: Raised, uniform: Callable[[float, float], float]
) -> float | None:
    """How long to wait before the attempt after this one; None if there is none. `uniform(low, high)` draws."""
    if what.is_final or attempt >= options.max_attempts or not _is_wanted(options, what):
        return None
    if what.after is not None:
        return what.after
    bound = min(options.max_backoff, options.backoff * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
    return uniform(0.0, bound)


def _is_wanted(options: RunOptions, what: Raised) -> bool:
    if what.asked:
        return True
    if not what.is_ordinary or not set(what.lineage).isdisjoint(options.give_up_on):
        return False
    return not options.retry_on or not set(what.lineage).isdisjoint(options.retry_on)
