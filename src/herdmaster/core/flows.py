"""What stands in the znodes of a flow: its header, and what the payload of a step says of the flow."""

from __future__ import annotations

import enum
from typing import Annotated, Final, Literal

import msgspec

from herdmaster.core.bounds import Count, Number, Seconds, UnixMs
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.names import (
    ENTRY,
    FLOW_OR_EMPTY,
    MAX_NAME,
    QUEUE,
    STEP_OR_EMPTY,
    call_name,
    derived_ulid,
    parse_flow_name,
    parse_task_name,
    ulid_time_ms,
)
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPayload

MAX_NOTED_PARENTS: Final = 100
EACH_CALL: Final = "herdmaster:each"
"""The call of a step that makes other steps. No function has this name: workers run it themselves."""


_MOST_RUNS: Final = 1000
_NO_TIME: Final = "0" * 10
"""How the ULID of a flow with a key begins, and no other one."""


# Paths are made of these, so a payload must not smuggle in others.
_Flow = Annotated[str, msgspec.Meta(pattern=FLOW_OR_EMPTY)]
_Step = Annotated[str, msgspec.Meta(pattern=STEP_OR_EMPTY, max_length=MAX_NAME)]
Mark = Literal["", "!", "?"]
"""What follows the id of a step in the name of its entry: `!` on failure, `?` optional."""
_Entry = Annotated[str, msgspec.Meta(pattern=ENTRY, max_length=MAX_NAME)]


class FlowState(enum.StrEnum):
    """The state of a flow."""

    BUILDING = "building"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REMOVED = "removed"
    """It is being deleted, and must not be opened again."""


_OPEN: Final = frozenset({FlowState.BUILDING, FlowState.RUNNING, FlowState.REMOVED})


def is_ended(state: FlowState) -> bool:
    """Return whether a flow has an outcome."""
    return state not in _OPEN


class OnFailure(enum.StrEnum):
    FINISH = "finish"
    STOP = "stop"


class Reference(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the result of a step goes. `at` begins with `args` or `kwargs` and leads to a null; with `each` the
    value is the list of the results of all items of the step."""

    at: tuple[str | int, ...]
    step: _Step
    each: bool = False


class Returns(msgspec.Struct, frozen=True):
    """The result of a flow: `value` is JSON, and `refs` say where results of steps go in it."""

    value: msgspec.Raw
    refs: tuple[Reference, ...] = ()


class KeySignature(msgspec.Struct, frozen=True):
    """A signature by a signing key: the id of the key, and the code that it gives (`core/signing.py`)."""

    key: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    mac: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class FlowHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/flows/F`. `steps` is how many steps were submitted. `timeout` (seconds) counts from when the header was last
    written while the flow runs, `ttl` from its end. `retries` counts how often failed steps were run again. `parent` is
    the task that submitted the flow; with `child` it is cancelled with that task. `signature` is that of the client,
    and covers what nothing changes later."""

    herd: Literal[1]
    name: str
    created: UnixMs
    state: FlowState
    steps: Number
    returns: Returns | None = None
    on_failure: OnFailure = OnFailure.FINISH
    timeout: Seconds | None = None
    ttl: Seconds | None = None
    keep: bool = False
    outcome: bool = True
    key: str | None = None
    retries: Number = 0
    ended: UnixMs | None = None
    error: ErrorInfo | None = None
    parent: str | None = None
    child: bool = False
    traceparent: str | None = None
    tracestate: str | None = None
    signature: KeySignature | None = None

    @property
    def unchanging(self) -> FlowHeader:
        """The header without what roles change."""
        return msgspec.structs.replace(
            self, state=FlowState.BUILDING, retries=0, ended=None, error=None, signature=None
        )


class Each(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an `each` step makes for each element: `item` is the payload of an item, with null as the first argument and
    empty texts as its step and task. `chunk` items go into one step; None leaves their number to the worker. With
    `flat` the elements are those of lists in a list."""

    item: msgspec.Raw
    queue: Annotated[str, msgspec.Meta(pattern=QUEUE)]
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)]
    chunk: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = 1
    flat: bool = False


class FlowStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the payload of a step says. `name` is for people. `task` is the name of its task in its first run. `joins`
    are the entries of other steps that have an edge of this one, `refs` the results that its arguments take, `after`
    its other parents. A step that may start without parents has their names by their ids, at most 100. `mark` says when
    it starts, for people: what decides is the name of its entry. `first` is the position of the first element of a
    chunk of an `each`."""

    flow: _Flow
    step: _Step
    name: str
    task: str
    joins: tuple[_Entry, ...] = ()
    refs: tuple[Reference, ...] = ()
    after: tuple[_Step, ...] = ()
    each: Each | None = None
    parent_names: dict[str, str] = {}
    mark: Mark = ""
    first: Number = 0

    def name_of(self, parent: str) -> str:
        """Return the name of a parent, `measure[7]` for an item; its id where the name is not known."""
        maker, _, item = parent.partition(".")
        name = self.parent_names.get(maker)
        return parent if name is None else f"{name}[{item}]" if item else name


class StepNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is noted in the outcome of a step for people, because its payload is gone: `after` are at most 100
    parents."""

    name: str
    after: tuple[str, ...] = ()
    mark: Mark = ""


_encoder = msgspec.json.Encoder()
_header_decoder = msgspec.json.Decoder(FlowHeader)


def encode_header(header: FlowHeader) -> bytes:
    return _encoder.encode(header)


def decode_header(data: bytes | None) -> FlowHeader:
    """Raises `BadPayload`, one sentence."""
    try:
        return _header_decoder.decode(data or b"")
    except UNREADABLE as error:
        raise BadPayload(f"the header of the flow cannot be read: {error}") from None


def parents_of(step: FlowStep) -> tuple[str, ...]:
    """Return the ids of all steps that a step waits for, each once."""
    return tuple(dict.fromkeys((*(ref.step for ref in step.refs), *step.after)))


def note_of(step: FlowStep) -> StepNote | None:
    """Return what the outcome of a step notes; None for an item, whose `each` step says it for all."""
    if "." in step.step:
        return None
    return StepNote(step.name, parents_of(step)[:MAX_NOTED_PARENTS], step.mark)


def step_task(
    created_ms: int, flow: str, step: str, queue: str, priority: int, *, big: bool = False, conditional: bool = False
) -> str:
    """Return the name of a step's task in its first run. `created_ms` is the time of the flow's header: the name of a
    flow with a key comes again, and no task's name may."""
    return call_name(derived_ulid(created_ms, flow, step, "0"), queue, priority, big, conditional, step=True)


def result_name(flow: str, created_ms: int, step: str) -> str:
    """Return the name under which the result of a step is signed. `created_ms` is the time of the flow's header. It is
    a part of the name if the flow has a key: the name of such a flow comes again, and begins with the time 0."""
    is_keyed = (parse_flow_name(flow) or "").startswith(_NO_TIME)
    return f"{flow}/{step}@{created_ms}" if is_keyed else f"{flow}/{step}"


def created_of(step: FlowStep) -> int:
    """Return the time of the header of a step's flow."""
    return ulid_time_ms(step.task) or 0


def task_of(step: FlowStep, run: Count | Number) -> str:
    """Return the name of a step's task in a later run: of the same time, queue, priority and marks."""
    if run == 0:
        return step.task
    name, created_ms = parse_task_name(step.task), ulid_time_ms(step.task)
    if name is None or created_ms is None:
        raise BadPayload(f"{step.task!r} is not the name of a step's task")
    ulid = derived_ulid(created_ms, step.flow, step.step, str(run))
    return call_name(ulid, name.queue, name.priority, name.big, name.conditional, step=True)


def find_run(flow: str, step: str, task: str) -> tuple[str, int]:
    """Return the name of a step's task in its first run, and the number of the run that `task` is of; `task` and 0 if
    none of the first thousand has this name."""
    name, created_ms = parse_task_name(task), ulid_time_ms(task)
    if name is None or created_ms is None:
        return task, 0
    first = step_task(created_ms, flow, step, name.queue, name.priority, big=name.big, conditional=name.conditional)
    described = FlowStep(flow, step, "", first)
    run = next((run for run in range(_MOST_RUNS) if task_of(described, run) == task), None)
    return (task, 0) if run is None else (first, run)
