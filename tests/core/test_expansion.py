"""The items of an `each`: what they are made of, and in which chunks."""

from __future__ import annotations

import msgspec
import pytest

from herdmaster.core.chunk import split_chunk
from herdmaster.core.codec import read_arguments, write_arguments
from herdmaster.core.each_items import EachItems
from herdmaster.core.expansion import (
    MAX_BYTES,
    MAX_ITEMS,
    Expansion,
    Made,
    StepArgs,
    args_by_codec,
    needs_codec,
    plain_args,
    progress_of,
    template_of,
    with_progress,
)
from herdmaster.core.flows import Each, FlowStep, Reference
from herdmaster.core.inputs import Input, StepResult
from herdmaster.core.names import parse_task_name
from herdmaster.core.payload import MAX_PAYLOAD, Call, decode_call, encode_call
from herdmaster.errors import BadPayload, PayloadTooLarge
from tests.core.test_codec import CODECS, PICKLES

F = "flow-01h00000000000000000000000"
TASK = "task-01h00000000000000000000001.default.f"
NONE_MADE = Made()


def step(*args: object, codec: bool = False, joins: tuple[str, ...] = (), queue: str = "default") -> FlowStep:
    """An `each` whose items are called with an element and `args`."""
    written = write_arguments((None, *args), {"x": 1}, None, PICKLES if codec else None)
    item = FlowStep("", "", "m:f", "", joins=joins, refs=(Reference(("args", 1), "2"),))
    call = Call(1, "m:f", *written, codec="pickle" if codec else None, ttl=60.0, flow=item)
    each = Each(msgspec.Raw(encode_call(call)), queue, 7)
    return FlowStep(F, "4", "each", TASK, joins, (Reference((), "3"),), (), each)


def over(*results: StepResult | None, is_list: bool = False) -> Input:
    return Input((), "3", results, is_list)


def expansion(flow: FlowStep, elements: list[object], done: int = 0, chunk: int | None = 1) -> Expansion:
    args = plain_args(template_of(flow), over(StepResult(msgspec.json.encode(elements))), chunk)
    return expand(flow, args, Made(done))


def expand(flow: FlowStep, args: StepArgs, made: Made = NONE_MADE) -> Expansion:
    return Expansion(flow, TASK, args, made=made, now_ms=1000, sign=lambda _task, data: data)


def test_an_item_is_the_template_with_its_element_as_the_first_argument() -> None:
    chunk = expansion(step("more", joins=("5", "6?")), [{"a": 1}]).next_batch(0)
    task, running, *edges = chunk.created
    call = decode_call(task.data)
    name = task.path.removeprefix("/tasks/")
    assert (call.call, call.args, call.kwargs) == ("m:f", msgspec.Raw(b'[{"a":1},"more"]'), msgspec.Raw(b'{"x":1}'))
    assert (call.ttl, call.due) == (60.0, 1000)
    assert call.flow == FlowStep(F, "4.0", "m:f", name, ("5", "6?"), (Reference(("args", 1), "2"),))
    assert (running.path, running.data) == (f"/flows/{F}/running/{name}", b"4.0")
    assert [edge.path for edge in edges] == [f"/flows/{F}/steps/5/4.0", f"/flows/{F}/steps/6?/4.0"]
    assert chunk.done == 1


def test_the_name_of_an_item_follows_from_its_index_and_has_queue_priority_and_size() -> None:
    def names(elements: list[object], done: int = 0) -> list[str]:
        chunk = expansion(step(queue="mail"), elements, done).next_batch(0)
        return [node.path.removeprefix("/tasks/") for node in chunk.created if node.path.startswith("/tasks/")]

    first, second, big = names([1, 1, "x" * 5000])
    assert len({first, second, big}) == 3
    assert names(["other", 2], 1) == [second]
    parsed = [parse_task_name(name) for name in (first, big)]
    assert [(each.queue, each.priority, each.big, each.step) for each in parsed if each is not None] == [
        ("mail", 7, False, True),
        ("mail", 7, True, True),
    ]


def test_chunks_are_bounded_in_number_and_bytes_and_go_on_where_they_stood() -> None:
    many = expansion(step(), [0] * 450)
    assert many.next_batch(0).done == MAX_ITEMS
    assert many.next_batch(MAX_BYTES - 2000).done == 3
    many.done = 400
    assert many.next_batch(0).done == 450

    large = expansion(step(), ["x" * 50_000] * 5)
    assert large.next_batch(0).done == 2
    assert large.next_batch(2 * MAX_BYTES).done == 1, "one item is always made"


def test_nothing_is_made_of_an_empty_list() -> None:
    assert expansion(step(), []).count == 0


def test_a_list_of_more_than_a_million_elements_is_refused() -> None:
    with pytest.raises(BadPayload, match="has 1000001 elements, and an `each` makes at most 1000000 items"):
        expand(step(), StepArgs([b"[0]"] * 1_000_001))


def test_an_item_that_no_payload_holds_is_refused() -> None:
    with pytest.raises(PayloadTooLarge):
        expansion(step(), ["x" * MAX_PAYLOAD]).next_batch(0)


@pytest.mark.parametrize("data", [b"5", b'{"a":1}', b"null", b"[", b'"text"'])
def test_a_result_that_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(BadPayload, match="the result of step 3 is no list"):
        plain_args(template_of(step()), over(StepResult(data)))


def test_a_codec_takes_the_list_apart_and_writes_the_items() -> None:
    flow = step("more", codec=True)
    template = template_of(flow)
    result = over(StepResult(msgspec.json.encode(PICKLES.encode([1j, 2j])), "pickle"))
    assert needs_codec(template, result)
    args = args_by_codec(template, result, CODECS)
    calls = [msgspec.structs.replace(template, args=msgspec.Raw(each)) for each in args.items]
    assert [read_arguments(call, None, CODECS) for call in calls] == [
        ([1j, "more"], {"x": 1}),
        ([2j, "more"], {"x": 1}),
    ]

    plain = args_by_codec(template, over(StepResult(b"[1]")), CODECS)
    call = msgspec.structs.replace(template, args=msgspec.Raw(plain.items[0]))
    assert read_arguments(call, None, CODECS) == ([1, "more"], {"x": 1})


def test_items_of_items_and_missing_parents() -> None:
    template = template_of(step("more"))
    items = over(StepResult(b"1"), None, StepResult(b"[2]"), is_list=True)
    assert not needs_codec(template, items)
    expected = [b'[1,"more"]', b'[null,"more"]', b'[[2],"more"]']
    assert plain_args(template, items) == args_by_codec(template, items, CODECS) == StepArgs(expected)
    assert plain_args(template, over(None)) == args_by_codec(template, over(None), CODECS) == StepArgs([])


def test_what_a_codec_reads_must_be_a_list_that_the_items_can_carry() -> None:
    def split(value: object, codec: bool) -> list[bytes]:
        result = over(StepResult(msgspec.json.encode(PICKLES.encode(value)), "pickle"))
        return args_by_codec(template_of(step(codec=codec)), result, CODECS).items

    assert split([1, 2], codec=False) == [b"[1]", b"[2]"]
    with pytest.raises(BadPayload, match="no list"):
        split({1: 2}, codec=True)


def test_items_that_are_no_steps_are_refused() -> None:
    call = Call(1, "m:f", msgspec.Raw(b"[null]"), msgspec.Raw(b"{}"))
    flow = msgspec.structs.replace(step(), each=Each(msgspec.Raw(encode_call(call)), "default", 5))
    with pytest.raises(BadPayload, match="no steps"):
        template_of(flow)
    with pytest.raises(BadPayload, match="makes no items"):
        template_of(msgspec.structs.replace(flow, each=None))


def test_progress_stands_behind_the_id_of_the_running_step() -> None:
    assert with_progress(b"4?", Made(200)) == b"4? 200"
    assert with_progress(b"4? 200", Made(400)) == b"4? 400"
    assert with_progress(b"4 200 5", Made(400, 5)) == b"4 400 5"
    assert [progress_of(data) for data in (b"4", b"4? 400", b"4 x", b"")] == [(0, 0), (400, 0), (0, 0), (0, 0)]
    assert [progress_of(data) for data in (b"4 2 50", b"4 2 x", b"4 2 3 4")] == [(2, 50), (2, 0), (2, 3)]


def calls_of(made: Expansion) -> list[Call]:
    created = made.next_batch(0).created
    return [decode_call(node.data) for node in created if node.path.startswith("/tasks/")]


def test_a_chunk_has_its_elements_and_what_they_share_once() -> None:
    made = expansion(step("more"), [[0], 1, 2, 3, 4], chunk=2)
    calls = calls_of(made)
    assert made.items == EachItems(5, 2)
    assert [bytes(call.args) for call in calls] == [b'[[[0],1],"more"]', b'[[2,3],"more"]', b'[[4],"more"]']
    assert [(call.chunk, call.flow.step, call.flow.first) for call in calls if call.flow] == [
        (True, "4.0", 0),
        (True, "4.1", 2),
        (True, "4.2", 4),
    ]
    items = [item for call in calls for item in split_chunk(call)]
    assert [read_arguments(item, None, {}) for item in items] == [
        ([element, "more"], {"x": 1}) for element in ([0], 1, 2, 3, 4)
    ]


def test_a_codec_writes_the_elements_of_a_chunk_one_by_one() -> None:
    flow = step("more", codec=True)
    result = over(StepResult(msgspec.json.encode(PICKLES.encode([1j, 2j, 3j])), "pickle"))
    args = args_by_codec(template_of(flow), result, CODECS, 2)
    calls = calls_of(expand(flow, args))
    items = [item for call in calls for item in split_chunk(call)]
    assert [read_arguments(item, None, CODECS) for item in items] == [
        ([element, "more"], {"x": 1}) for element in (1j, 2j, 3j)
    ]


def test_a_chunk_is_smaller_where_its_elements_are_large() -> None:
    made = expansion(step(), ["x" * 100_000] * 8, chunk=8)
    assert made.items == EachItems(8, 2)


def test_chunks_keep_their_size_where_a_codec_writes_other_bytes_on_the_next_worker() -> None:
    def args(size: int) -> StepArgs:
        return StepArgs([msgspec.json.encode(PICKLES.encode("x" * size))] * 8, 8)

    flow = step(codec=True)
    assert expand(flow, args(10)).items == EachItems(8, 8)
    assert expand(flow, args(60_000)).items == EachItems(8, 2)
    begun = Made(1, 2)
    assert [expand(flow, args(size), begun).items for size in (10, 60_000, 150_000)] == [EachItems(8, 2)] * 3
    with pytest.raises(BadPayload, match=r"chunk 4\.1 has \d+ bytes, .*: choose a smaller chunk_size"):
        expand(flow, args(300_000), begun).next_batch(0)


def test_the_elements_of_lists_are_taken_as_one_list() -> None:
    template = template_of(step("more"))
    expected = StepArgs([b'[1,"more"]', b'[[2],"more"]', b'[3,"more"]'])
    items = over(StepResult(b"[1,[2]]"), None, StepResult(b"[]"), StepResult(b"[3]"), is_list=True)
    whole = over(StepResult(b"[[1,[2]],[3]]"))
    for given in (items, whole):
        assert plain_args(template, given, flat=True) == expected
        assert args_by_codec(template, given, CODECS, flat=True) == expected
    for wrong in (over(StepResult(b"[1]")), over(StepResult(b"5")), over(StepResult(b"5"), is_list=True)):
        with pytest.raises(BadPayload, match="is no list"):
            plain_args(template, wrong, flat=True)
        with pytest.raises(BadPayload, match="is no list"):
            args_by_codec(template, wrong, CODECS, flat=True)
