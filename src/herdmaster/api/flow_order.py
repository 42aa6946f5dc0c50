"""Turns a flow that was written into what is submitted: a header, and the payload of each step."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from herdmaster.api.flow_future import FlowFuture
from herdmaster.api.flow_options import CheckedFlow
from herdmaster.api.flow_results import FlowReader
from herdmaster.api.internals import core_of
from herdmaster.api.order import Order
from herdmaster.api.step import Step, StepNode
from herdmaster.api.step_arguments import Found, take_out
from herdmaster.core.flow_creation import NewFlow, NewStep, entry_of
from herdmaster.core.flows import (
    EACH_CALL,
    MAX_NOTED_PARENTS,
    Each,
    FlowHeader,
    FlowState,
    FlowStep,
    Reference,
    Returns,
    encode_header,
    step_task,
)
from herdmaster.core.names import derived_ulid, flow_name
from herdmaster.core.options import Overrides
from herdmaster.core.payload import BIG, MAX_PAYLOAD, Call, encode_call
from herdmaster.core.signing import Keyring
from herdmaster.core.values import to_json
from herdmaster.errors import ConfigurationError, HerdError, PayloadTooLarge
from herdmaster.running.current import running_now

if TYPE_CHECKING:
    from herdmaster.spans import Sending, Spans

NO_ARGS: Final = msgspec.Raw(b"[]")
NO_KWARGS: Final = msgspec.Raw(b"{}")
_NOTHING: Final = Overrides()
_MANY: Final = 1000
"""References of one step. A payload has room for about ten times as many."""


class Context(NamedTuple):
    """What all steps of a flow have in common. `created` in unix milliseconds."""

    flow: str
    created: int
    keyring: Keyring | None
    traceparent: str | None = None
    tracestate: str | None = None


def order_flow(
    ulid: str, flow: CheckedFlow, nodes: Sequence[StepNode], returns: object, *, spans: Spans | None,
    keyring: Keyring | None,
) -> Order:  # fmt: skip
    """Return the order of a flow. `ulid` is the unique part of its name, unless it has a key. Raises PayloadTooLarge,
    NotSerializable, ConfigurationError."""
    parent = running_now.get(None)
    _check(flow, nodes, in_task=parent is not None)
    created = time.time_ns() // 1_000_000
    name = flow_name(ulid)
    keyed_name = None if flow.key is None else flow_name(derived_ulid(0, "flow", flow.name, flow.key))
    found = _returned(returns)
    sending = None if spans is None else spans.begin_flow(flow.name, nodes[0].options.queue)
    try:
        context = Context(keyed_name or name, created, keyring, *_trace_of(sending))
        header = FlowHeader(
            1, flow.name, created, FlowState.BUILDING, len(nodes), found[0], flow.on_failure, flow.timeout, flow.ttl,
            flow.keep, key=flow.key, parent=None if parent is None else parent.name, child=flow.child,
            traceparent=context.traceparent, tracestate=context.tracestate,
        )  # fmt: skip
        if keyring is not None:
            header = keyring.sign_header(context.flow, header)
        size = len(encode_header(header))
        if size > MAX_PAYLOAD:
            raise PayloadTooLarge(size, MAX_PAYLOAD)
        steps = tuple(write_steps(context, nodes))
    except HerdError as error:
        if sending is not None:
            sending.settled(error)
        raise
    if sending is not None:
        sending.named(context.flow)
    new, reader = NewFlow(name, header, steps, keyed_name), FlowReader(*found)
    return Order(new, reader, on_duplicate=flow.on_duplicate, sending=sending, future=FlowFuture, child=flow.child)


def _check(flow: CheckedFlow, nodes: Sequence[StepNode], *, in_task: bool) -> None:
    """Raises ConfigurationError for a flow that cannot be submitted here."""
    if not nodes:
        raise ConfigurationError(
            f"the flow {flow.name!r} has no steps: write some, such as fetch.step(url); `each` over [] makes none"
        )
    if flow.child and not in_task:
        raise ConfigurationError("child=True is for a flow that a task submits, and no task runs here")
    if flow.child and flow.key is not None:
        raise ConfigurationError("child=True and key= exclude each other: a flow with a key may belong to another task")


def _trace_of(sending: Sending | None) -> tuple[str | None, str | None]:
    return (None, None) if sending is None else (sending.traceparent, sending.tracestate)


def _returned(value: object) -> tuple[Returns | None, tuple[StepNode, ...]]:
    """Return what a header says of the flow's result, and the steps that its references name, in their order."""
    if value is None:
        return None, ()
    found: list[Found] = []
    plain = take_out(value, Step, (), found)
    refs = references(found)
    nodes = tuple(core_of(each.step) for each in found if isinstance(each.step, Step))
    return Returns(msgspec.Raw(to_json(plain, "what the flow returns")), refs), nodes


def references(found: Iterable[Found]) -> tuple[Reference, ...]:
    nodes = ((each.at, core_of(each.step)) for each in found if isinstance(each.step, Step))
    return tuple(Reference(at, node.id, node.is_each) for at, node in nodes)


# --- steps -----------------------------------------------------------------------------------------------------------


def write_steps(context: Context, nodes: Sequence[StepNode]) -> Iterable[NewStep]:
    """Yield the steps of a flow, each with its entry, edges and payload. Raises PayloadTooLarge."""
    entries: dict[str, tuple[str, tuple[str, ...]]] = {}
    joins: dict[str, list[str]] = {node.id: [] for node in nodes}
    for node in nodes:
        parents = node.parents
        ids = [parent.id for parent in parents]
        follows = len(parents) == 1 and not parents[0].is_each
        entry, edges = entries[node.id] = entry_of(node.id, node.step_options.mark, ids, follows=follows)
        for parent in edges:
            joins[parent].append(entry)
    for node in nodes:
        entry, edges = entries[node.id]
        try:
            task, data = write_step(context, node, tuple(joins[node.id]))
        except PayloadTooLarge as error:
            error.add_note(f"This was {node!r}; nothing was submitted.{_hint(node)}")
            raise
        yield NewStep(entry, task, data, edges)


def _hint(node: StepNode) -> str:
    count = len(node.written.found)
    if count < _MANY:
        return ""
    return f" It gets the results of {count} steps: let a step return their list, and use flow.each(fn, that_step)."


def write_step(context: Context, node: StepNode, joins: tuple[str, ...]) -> tuple[str, bytes]:
    """Return the task of a step and its payload. Raises PayloadTooLarge."""
    queue, priority = node.options.queue, node.options.priority
    signature = 0 if context.keyring is None else context.keyring.size
    task, data = "", b""
    for is_big in (False, True):
        task = step_task(context.created, context.flow, node.id, queue, priority, big=is_big)
        step = _flow_step(context, node, task, joins)
        data = encode_call(_each(context, node, step) if node.is_each else _call(context, node, step))
        if len(data) + signature <= BIG:
            break
    return task, data if context.keyring is None else context.keyring.sign_task(task, data)


def _flow_step(context: Context, node: StepNode, task: str, joins: tuple[str, ...]) -> FlowStep:
    refs = references(node.written.found)
    referred = {ref.step for ref in refs}
    after = tuple(parent.id for parent in node.parents if parent.id not in referred)
    mark = node.step_options.mark
    missable = node.parents[:MAX_NOTED_PARENTS] if mark else ()
    names = {parent.id: parent.name for parent in missable}
    return FlowStep(context.flow, node.id, node.name, task, joins, refs, after, parent_names=names, mark=mark)


def _call(context: Context, node: StepNode, step: FlowStep) -> Call:
    callee, options = node.callee, node.options
    return Call(
        1,
        callee.call,
        node.written.args,
        node.written.kwargs,
        max_deliveries=options.max_deliveries,
        options=None if options.overrides == _NOTHING else options.overrides,
        codec=None if callee.codec is None else callee.codec.name,
        traceparent=context.traceparent,
        tracestate=context.tracestate,
        flow=step,
    )


def _each(context: Context, node: StepNode, step: FlowStep) -> Call:
    """Return the call that makes the items: it has the payload of an item with it. Raises PayloadTooLarge."""
    assert node.over is not None
    item = encode_call(_call(context, node, msgspec.structs.replace(step, step="", task="", after=())))
    over = Reference((), node.over.id, node.over.is_each)
    others = tuple(dict.fromkeys((*(ref.step for ref in step.refs), *step.after)))
    after = tuple(other for other in others if other != node.over.id)
    each = Each(msgspec.Raw(item), node.options.queue, node.options.priority, node.chunk_size, node.is_flat)
    made = msgspec.structs.replace(step, refs=(over,), after=after, each=each)
    return Call(
        1, EACH_CALL, NO_ARGS, NO_KWARGS, flow=made, traceparent=context.traceparent, tracestate=context.tracestate
    )
