"""Names of tasks and of those who handle them.

    task   = raw | call
    raw    = "task-" 1*(letter | digit | "_" | "-")
    call   = "task-" ULID "." queue [".p" digit] [".b"] [".c"] [".f"]
    flow   = "flow-" ULID
    step   = number *(("." | "+") number)

A call always writes its queue, and writes it first, so that nothing after the first dot is ever ambiguous:
`task-ULID.b` has the queue `b`, and `task-ULID.b.b` is a big task of that queue. A raw name has no dot, so one
character tells the two kinds apart. Only the canonical form is a name: priority 5 is never written, markers stand in
this order, each once. Thus a name and its fields determine each other, and two names never mean the same task. A call
with `.f` is a step of a flow; programs that know no flows leave such a name alone.

A name has at most `MAX_NAME` characters, which bounds the size of every transaction that carries it.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import re
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from herdmaster.errors import InvalidName

DEFAULT_QUEUE: Final = "default"
DEFAULT_PRIORITY: Final = 5
MAX_NAME: Final = 200
MAX_SCHEDULE_NAME: Final = 100

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ULID: Final = r"[0-7][0-9a-hjkmnp-tv-z]{25}"
_QUEUE: Final = r"(?!p[0-9](?:\.|\Z))[a-z][a-z0-9_-]{0,62}"
_task_name = re.compile(
    rf"task-(?:({_ULID})\.({_QUEUE})(?:\.p([0-46-9]))?(\.b)?(\.c)?(\.f)?|[A-Za-z0-9_-]{{1,{MAX_NAME - len('task-')}}})"
).fullmatch
_TO_BASE_32: Final = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
"""From Crockford's digits to those that `int` reads."""
_TIME_DIGITS: Final = 10
_AFTER_ULID: Final = len("task-") + 26 + len(".")
_queue_name = re.compile(_QUEUE).fullmatch
_ulid = re.compile(_ULID).fullmatch
_STEP: Final = r"[0-9]{1,9}(?:[.+][0-9]{1,9})*"
_step_id = re.compile(_STEP).fullmatch
_ulid_of_task = re.compile(rf"task-({_ULID})(?:\..*)?").fullmatch
_schedule_name = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.:-]{{0,{MAX_SCHEDULE_NAME - 1}}}").fullmatch
_member_id = re.compile(r"[A-Za-z0-9_-]+").fullmatch


class TaskKind(enum.Enum):
    RAW = "raw"
    CALL = "call"


class TaskName(msgspec.Struct, frozen=True, gc=False):
    """What a task's name says. `big`: the payload has more than 4 KiB. `conditional`: its header has conditions that
    the primary reads before it places the task. `step`: it is a step of a flow.
    """

    name: str
    kind: TaskKind
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    big: bool = False
    conditional: bool = False
    step: bool = False


def parse_task_name(name: str) -> TaskName | None:
    """The fields of a znode name, or None if it is not a task's name. Queue strings are shared between names."""
    match = _task_name(name)
    if match is None:
        return None
    ulid, queue, priority, big, conditional, step = match.groups()
    if ulid is None:
        return TaskName(name, TaskKind.RAW)
    return TaskName(
        name,
        TaskKind.CALL,
        sys.intern(queue),
        DEFAULT_PRIORITY if priority is None else int(priority),
        big is not None,
        conditional is not None,
        step is not None,
    )


def queue_and_priority(name: str) -> tuple[str, int] | None:
    """Only what placing a task needs, for those who keep plain names; None if it is not a task's name."""
    match = _task_name(name)
    if match is None:
        return None
    queue, priority = match.group(2, 3)
    if queue is None:
        return DEFAULT_QUEUE, DEFAULT_PRIORITY
    return sys.intern(queue), DEFAULT_PRIORITY if priority is None else int(priority)


def is_call(name: str) -> bool:
    """Whether a task's name is that of a call. Only for names that are known to be task names."""
    return "." in name


def is_raw(name: str) -> bool:
    """Whether a name is that of a raw task. Only for names of tasks and flows, and for `FLOW/STEP`."""
    return "." not in name and name.startswith("task-")


def is_step(name: str) -> bool:
    """Whether a task is a step of a flow. Only for names that are known to be task names."""
    return name.endswith(".f") and len(name) > _AFTER_ULID + 1  # and not a call of the queue `f`


def check_queue(queue: str) -> str:
    """The queue's name itself; raises `InvalidName` with what is allowed."""
    if _queue_name(queue) is None:
        raise InvalidName(
            f"{queue!r} is not a queue name: a lower-case letter, then at most 62 lower-case letters, digits, "
            "underscores and hyphens; and not `p` followed by one digit, which would read like a priority"
        )
    return queue


def check_priority(priority: int) -> int:
    """The priority itself; raises `InvalidName` with what is allowed."""
    if not 0 <= priority <= 9:
        raise InvalidName(f"{priority!r} is not a priority: a whole number from 0 to 9, 9 runs first, 5 is the default")
    return priority


@functools.lru_cache(maxsize=1024)
def _suffix(queue: str, priority: int, big: bool, conditional: bool, step: bool) -> str:
    check_queue(queue)
    check_priority(priority)
    marks = (".b" if big else "") + (".c" if conditional else "") + (".f" if step else "")
    return f".{queue}{marks}" if priority == DEFAULT_PRIORITY else f".{queue}.p{priority:d}{marks}"


def _check_ulid(ulid: str) -> None:
    if _ulid(ulid) is None:
        raise InvalidName(
            f"{ulid!r} is not a ULID: 26 characters of Crockford's base 32 in lower case, the first from 0 to 7"
        )


def call_name(
    ulid: str,
    queue: str = DEFAULT_QUEUE,
    priority: int = DEFAULT_PRIORITY,
    big: bool = False,
    conditional: bool = False,
    *,
    step: bool = False,
) -> str:
    """The name of a call. Raises `InvalidName` for a ULID, queue or priority that the grammar does not have."""
    _check_ulid(ulid)
    return f"task-{ulid}{_suffix(queue, priority, big, conditional, step)}"


def raw_name(ulid: str) -> str:
    """The name of a raw task that we submit. Raises `InvalidName` for what is not a ULID."""
    _check_ulid(ulid)
    return f"task-{ulid}"


def renewed_name(name: str, ulid: str) -> str:
    """A new name for a task that starts anew: of the same kind, queue, priority and size, without conditions."""
    parsed = parse_task_name(name)
    if parsed is None or parsed.kind is TaskKind.RAW:
        return raw_name(ulid)
    return call_name(ulid, parsed.queue, parsed.priority, big=parsed.big)


def ulid_time_ms(name: str) -> int | None:
    """When the client made the name, in unix milliseconds of its clock; None for a name without a ULID."""
    return _time_in(name) if _ulid_of_task(name) is not None else None


def queue_of(name: str) -> str:
    """The queue of a task. Only for names that are known to be task names."""
    return sys.intern(name.partition(".")[2].partition(".")[0]) or DEFAULT_QUEUE


def queue_and_time(name: str) -> tuple[str, int]:
    """The queue of a call and when the client made its name (unix milliseconds). Only for names of calls."""
    return sys.intern(name[_AFTER_ULID:].partition(".")[0]), _time_in(name)


def _time_in(name: str) -> int:
    return int(name[len("task-") : len("task-") + _TIME_DIGITS].translate(_TO_BASE_32), 32)


_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_MAX_TIME: Final = (1 << 48) - 1
_MAX_RANDOM: Final = (1 << 80) - 1


def derived_ulid(time_ms: int, *parts: str) -> str:
    """A ULID of this time whose other bits are a hash of the parts: the same for the same arguments."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return _time_text(time_ms) + _base32(int.from_bytes(digest[:10], "big"), 70)


@functools.lru_cache(maxsize=16)
def _time_text(time_ms: int) -> str:
    return _base32(min(max(time_ms, 0), _MAX_TIME), 40)


class UlidFactory:
    """Makes lower-case ULIDs, each greater than the one before it, also when the clock stands still or goes back.

    `now_ms` gives unix milliseconds, `random_bytes(n)` n unpredictable bytes. Not for use by several threads at once.
    """

    def __init__(self, now_ms: Callable[[], int], random_bytes: Callable[[int], bytes]) -> None:
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._time = -1
        self._time_text = ""
        self._random = 0

    def new(self) -> str:
        """The next ULID. Raises `OverflowError` once its 48 bits of time are used up, in the year 10889."""
        now = self._now_ms()
        if now > self._time:
            self._start(now)
        elif self._random < _MAX_RANDOM:
            self._random += 1
        else:
            self._start(self._time + 1)
        return self._time_text + _base32(self._random, 70)

    def _start(self, time_ms: int) -> None:
        if time_ms > _MAX_TIME:
            raise OverflowError(f"{time_ms} ms is past what the 48 bits of a ULID can say: set the clock right")
        self._time = max(time_ms, 0)
        self._time_text = _base32(self._time, 40)
        self._random = int.from_bytes(self._random_bytes(10), "big")


def _base32(value: int, top_shift: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(top_shift, -1, -10)])


def _member_name(prefix: str, ident: str) -> str:
    if _member_id(ident) is None or len(prefix) + len(ident) > MAX_NAME:
        raise InvalidName(
            f"{ident!r} cannot follow {prefix!r}: letters, digits, underscores and hyphens, "
            f"at most {MAX_NAME - len(prefix)} of them"
        )
    return prefix + ident


def _parse_member(prefix: str, name: str) -> str | None:
    ident = name.removeprefix(prefix)
    if ident == name or len(name) > MAX_NAME or _member_id(ident) is None:
        return None
    return ident


def check_schedule_name(name: str) -> str:
    """The name of a schedule itself; raises `InvalidName` with what is allowed."""
    if _schedule_name(name) is None:
        raise InvalidName(
            f"{name!r} is not the name of a schedule: a letter or digit, then at most {MAX_SCHEDULE_NAME - 1} letters, "
            "digits, underscores, hyphens, dots and colons"
        )
    return name


def parse_schedule_name(name: str) -> str | None:
    """The name itself, or None if it is not the name of a schedule."""
    return name if _schedule_name(name) is not None else None


def flow_name(ulid: str) -> str:
    """`flow-ULID`; raises `InvalidName`."""
    _check_ulid(ulid)
    return f"flow-{ulid}"


def parse_flow_name(name: str) -> str | None:
    """The ULID in `flow-ULID`, or None."""
    ulid = name.removeprefix("flow-")
    return ulid if ulid != name and _ulid(ulid) is not None else None


def has_outcome(name: str) -> bool:
    """Whether `/status` may have an outcome of that name: it is the name of a task or of a flow."""
    return _task_name(name) is not None or parse_flow_name(name) is not None


FLOW_OR_EMPTY: Final = rf"^(?:flow-{_ULID})?\Z"
STEP_OR_EMPTY: Final = rf"^(?:{_STEP})?\Z"
QUEUE: Final = rf"^{_QUEUE}\Z"
ENTRY: Final = rf"^{_STEP}[!?]?\Z"
"""Patterns for what the payload of a step says: the name of a flow, the id of a step, the queue of items, the entry of
a join. The template of an item says no flow and no step."""


def parse_step_id(name: str) -> str | None:
    """The name itself, or None if it is not the id of a step."""
    return name if len(name) <= MAX_NAME and _step_id(name) is not None else None


def worker_name(ident: str) -> str:
    """`worker-ID`; raises `InvalidName`."""
    return _member_name("worker-", ident)


def parse_worker_name(name: str) -> str | None:
    """The id in `worker-ID`, or None."""
    return _parse_member("worker-", name)


def master_name(ident: str) -> str:
    """`master-ID`; raises `InvalidName`."""
    return _member_name("master-", ident)


def parse_master_name(name: str) -> str | None:
    """The id in `master-ID`, or None."""
    return _parse_member("master-", name)


def client_name(ident: str) -> str:
    """`client-ID`; raises `InvalidName`."""
    return _member_name("client-", ident)


def parse_client_name(name: str) -> str | None:
    """The id in `client-ID`, or None."""
    return _parse_member("client-", name)
