"""Steps that a running step adds to its flow: created in the transaction that completes it, so all or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.operations import CreateNode
from herdmaster.core.payload import decode_call, encode_call
from herdmaster.errors import ConfigurationError

MAX_ADDED: Final = 1000
MAX_BYTES: Final = 384 * 1024
"""Of their znodes. With a result of any size they fit a frame."""
_ZNODE: Final = 300
"""Bytes of a znode beside its data, in a frame."""


class AddedStep(msgspec.Struct, frozen=True, array_like=True):
    """A step with the id `step` and the task `task`. `payload` is that of a call whose `flow` has no `joins` yet.
    `parents` are the other added steps that it waits for: the step that adds it is done when it starts. `mark` is what
    follows its id in the name of its znode, as in `core.flows`."""

    step: str
    task: str
    payload: bytes
    parents: tuple[str, ...] = ()
    mark: str = ""

    @property
    def size(self) -> int:
        """At most how many bytes its znodes have in a frame."""
        return len(self.payload) + (2 + 2 * len(self.parents)) * _ZNODE


def check_room(count: int, size: int) -> None:
    """Raises ConfigurationError for more steps, or more bytes, than one running step may add."""
    if count > MAX_ADDED or size > MAX_BYTES:
        raise ConfigurationError(
            f"a running step may add at most {MAX_ADDED} steps of {MAX_BYTES // 1024} KiB in all, and this one adds "
            f"{count} of {size // 1024} KiB: add an `each` over a list, or let the added steps add further ones"
        )


def create_added(
    flow: str, added: Sequence[AddedStep], sign: Callable[[str, bytes], bytes] = lambda _task, data: data
) -> list[CreateNode]:
    """Return what creates the steps. A step that waits for none of the others is created as a task. `sign` takes the
    name of a task and its payload. Raises BadPayload, PayloadTooLarge."""
    items_makers = {each.step for each in added if _is_each(each)}
    entries = {each.step: _entry(each, items_makers) for each in added if each.parents}
    joins: dict[str, list[str]] = {each.step: [] for each in added}
    for each in added:
        for parent in each.parents:
            if ":" not in entries[each.step]:
                joins[parent].append(entries[each.step])
    created: list[CreateNode] = []
    for each in added:
        payload = sign(each.task, _with_joins(each.payload, tuple(joins[each.step])))
        if not each.parents:
            created.append(CreateNode(layout.task_path(each.task), payload))
            created.append(CreateNode(layout.flow_running_path(flow, each.task), each.step.encode()))
            continue
        entry = entries[each.step]
        created.append(CreateNode(layout.flow_step_path(flow, entry), payload))
        if ":" not in entry:
            created += [CreateNode(layout.flow_edge_path(flow, entry, parent), b"") for parent in each.parents]
    return created


def _is_each(step: AddedStep) -> bool:
    if b'"each"' not in step.payload:
        return False
    flow = decode_call(step.payload).flow
    return flow is not None and flow.each is not None


def _entry(step: AddedStep, items_makers: set[str]) -> str:
    """Return the name of the znode of a step that waits. One that waits for a single step, whose outcome alone decides,
    follows that step and has no edge."""
    if len(step.parents) == 1 and not step.mark and step.parents[0] not in items_makers:
        return f"{step.parents[0]}:{step.step}"
    return f"{step.step}{step.mark}"


def _with_joins(payload: bytes, joins: tuple[str, ...]) -> bytes:
    call = decode_call(payload)
    if call.flow is None or not joins:
        return payload
    return encode_call(msgspec.structs.replace(call, flow=msgspec.structs.replace(call.flow, joins=joins)))
