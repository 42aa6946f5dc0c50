"""The steps of an `each`: one for each element of a list, or for a chunk of elements, made in small transactions.

A step is what the template says, with the element as its first argument. Its id, and so the name of its task, follow
from its index: it makes no difference which worker makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from herdmaster.core import layout
from herdmaster.core.chunk import step_args
from herdmaster.core.codec import Codecs, read_arguments, read_input, write_arguments, write_value
from herdmaster.core.each_items import MOST_ITEMS, EachItems, chunk_size, fitting_chunk
from herdmaster.core.flows import FlowStep, step_task
from herdmaster.core.inputs import Input
from herdmaster.core.names import queue_and_time
from herdmaster.core.operations import CreateNode
from herdmaster.core.payload import BIG, MAX_PAYLOAD, Call, decode_call
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPayload, PayloadTooLarge

MAX_ITEMS: Final = 200
"""Steps in one transaction."""
_MAX_DIGITS: Final = 15
MAX_BYTES: Final = 128 * 1024
"""Of the znodes of one transaction, unless a single item has more."""
_ENVELOPE: Final = 4 * 1024
"""Bytes of a payload beside the template and its elements."""
_ZNODE: Final = 64
"""Bytes of a znode beside its path and data, in a frame."""

_list_decoder: Final = msgspec.json.Decoder(list[msgspec.Raw])
_fields_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder: Final = msgspec.json.Encoder()

Sign = Callable[[str, bytes], bytes]
"""Takes the name of a task and its payload, and returns the signed payload."""


def template_of(flow: FlowStep) -> Call:
    """Return the call that every item is made of. Raises BadPayload."""
    if flow.each is None:
        raise BadPayload(f"step {flow.step} makes no items")
    call = decode_call(bytes(flow.each.item))
    if call.flow is None:
        raise BadPayload(f"the items of step {flow.step} are no steps")
    return call


class StepArgs(NamedTuple):
    """What the arguments of the steps of an `each` are made of. With `chunk`, `items` are the JSON of the elements, and
    so many go into a step; else they are `Call.args` of each step."""

    items: list[bytes]
    chunk: int = 0


def needs_codec(template: Call, over: Input) -> bool:
    """Return whether `args_by_codec` has to make the arguments, which runs code of the app."""
    return template.codec is not None or not over.is_plain


def plain_args(template: Call, over: Input, chunk: int | None = 1, *, flat: bool = False) -> StepArgs:
    """Return the arguments of the steps, where all is plain JSON. `over` is the list, or what makes up a list. A parent
    that is missing counts as an empty list, and an item of a parent that is missing as null. `chunk` and
    `flat` are as of `Each`. Raises BadPayload."""
    try:
        if over.is_list:
            elements = [b"null" if result is None else result.data for result in over.results]
        else:
            elements = [bytes(raw) for data in _data(over) for raw in _list_decoder.decode(data)]
        if flat:
            elements = [bytes(raw) for each in elements if each != b"null" for raw in _list_decoder.decode(each)]
    except UNREADABLE:
        raise BadPayload(_no_list(over.step)) from None
    size = chunk_size(chunk, len(elements))
    if size:
        return StepArgs(elements, size)
    rest = b"".join(b"," + bytes(value) for value in _list_decoder.decode(template.args)[1:])
    return StepArgs([b"[" + element + rest + b"]" for element in elements])


def args_by_codec(
    template: Call, over: Input, codecs: Codecs, chunk: int | None = 1, *, flat: bool = False
) -> StepArgs:
    """As `plain_args`, for any codec. Raises BadPayload, NotSerializable."""
    values = [None if result is None else read_input(over.step, codecs, result) for result in over.results]
    elements = values if over.is_list else [] if over.is_missing else _list(over.step, values[0])
    if flat:
        elements = [value for each in elements if each is not None for value in _list(over.step, each)]
    args, kwargs = read_arguments(template, None, codecs)
    codec = codecs[template.codec] if template.codec is not None else None
    size = chunk_size(chunk, len(elements))
    if size:
        return StepArgs([bytes(write_value(element, "an element", codec)) for element in elements], size)
    return StepArgs([bytes(write_arguments((element, *args[1:]), kwargs, None, codec)[0]) for element in elements])


class Made(NamedTuple):
    """How many steps of an `each` are there, and how many items each of them has; with 0 that is not known, or each is
    an item."""

    steps: int = 0
    chunk: int = 0


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Steps that are made in one transaction: what creates them, and how many steps there are after it."""

    created: tuple[CreateNode, ...]
    done: int


class Expansion:
    """The steps of one `each`. `task` is the name of its task."""

    def __init__(self, flow: FlowStep, task: str, args: StepArgs, *, made: Made, now_ms: int, sign: Sign) -> None:
        """`made` are the steps that are there already. The steps may begin at `now_ms`. Raises BadPayload."""
        assert flow.each is not None
        count = len(args.items)
        if count > MOST_ITEMS:
            raise BadPayload(f"the list has {count} elements, and an `each` makes at most {MOST_ITEMS} items")
        template = template_of(flow)
        assert template.flow is not None
        room = MAX_PAYLOAD - len(bytes(flow.each.item)) - _ENVELOPE
        # A codec may write other bytes on another worker, which has to go on with chunks of the same size.
        is_known = args.chunk and made.chunk
        self.items = EachItems(count, made.chunk if is_known else fitting_chunk(args.chunk, args.items, room))
        self.count = self.items.steps
        self.done = made.steps
        self._flow, self._each, self._args = flow, flow.each, args.items
        shared = _list_decoder.decode(template.args)
        self._shared = shared if template.codec is not None else shared[1:]
        self._time = queue_and_time(task)[1]
        self._sign = sign
        self._fields = _fields_decoder.decode(flow.each.item)
        self._fields["due"] = msgspec.Raw(_encoder.encode(now_ms))
        if self.items.chunk:
            self._fields["chunk"] = msgspec.Raw(b"true")
        self._item = template.flow

    def next_batch(self, size: int) -> Batch:
        """Return the next steps. `size` is what the transaction has already, in bytes. Raises PayloadTooLarge for an
        item, and BadPayload for a chunk, that no payload can hold."""
        created: list[CreateNode] = []
        done = self.done
        while done < min(self.count, self.done + MAX_ITEMS):
            item = self._create(done)
            size += sum(_ZNODE + len(node.path) + len(node.data) for node in item)
            if created and size > MAX_BYTES:
                break
            created += item
            done += 1
        return Batch(tuple(created), done)

    def _create(self, index: int) -> list[CreateNode]:
        flow, each = self._flow, self._each
        step = f"{flow.step}.{index}"
        args = self._args_of(index)
        is_big = len(bytes(each.item)) + len(args) > BIG
        task = step_task(self._time, flow.flow, step, each.queue, each.priority, big=is_big)
        payload = self._sign(task, self._payload(step, task, index, args))
        if len(payload) > MAX_PAYLOAD and self.items.chunk > 1:
            raise BadPayload(
                f"chunk {step} has {len(payload)} bytes, and a step has at most {MAX_PAYLOAD}: choose a smaller "
                "chunk_size"
            )
        if len(payload) > MAX_PAYLOAD:
            raise PayloadTooLarge(len(payload), MAX_PAYLOAD)
        edges = [CreateNode(layout.flow_edge_path(flow.flow, entry, step), b"") for entry in flow.joins]
        running = CreateNode(layout.flow_running_path(flow.flow, task), step.encode())
        return [CreateNode(layout.task_path(task), payload), running, *edges]

    def _args_of(self, index: int) -> bytes:
        chunk = self.items.chunk
        if not chunk:
            return self._args[index]
        return bytes(step_args(self._args[index * chunk : (index + 1) * chunk], self._shared))

    def _payload(self, step: str, task: str, index: int, args: bytes) -> bytes:
        first = index * self.items.chunk
        item = msgspec.structs.replace(self._item, flow=self._flow.flow, step=step, task=task, first=first)
        changes = {"args": msgspec.Raw(args), "flow": msgspec.Raw(_encoder.encode(item))}
        return _encoder.encode(self._fields | changes)


def with_progress(running: bytes, made: Made) -> bytes:
    """Return the data of the znode of the running step, which has the number of its steps so far after a space, and
    then the size of chunks if there are any."""
    data = b"%b %d" % (running.partition(b" ")[0], made.steps)
    return data + b" %d" % made.chunk if made.chunk else data


def progress_of(running: bytes) -> Made:
    """Return what is there by the data of the znode of the running step."""
    return Made(*map(_number, running.split(b" ")[1:3]))


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else 0


def _data(over: Input) -> list[bytes]:
    return [result.data for result in over.results if result is not None]


def _list(step: str, value: object) -> list[object]:
    if not isinstance(value, (list, tuple)):
        raise BadPayload(_no_list(step))
    return list(value)


def _no_list(step: str) -> str:
    return f"the result of step {step} is no list, and an `each` makes one step for each element of a list"
