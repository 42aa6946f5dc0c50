"""What a flow that was written is submitted as."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from herdmaster import ConfigurationError, Flow, Herd, NotSerializable, PayloadTooLarge
from herdmaster.api.internals import core_of
from herdmaster.api.order import Order
from herdmaster.core import payload
from herdmaster.core.flow_creation import NewFlow
from herdmaster.core.flows import EACH_CALL, FlowStep, OnFailure, Reference
from herdmaster.core.names import parse_task_name
from herdmaster.core.payload import Call, decode_call
from herdmaster.core.signing import Keyring
from herdmaster.testing import task_context
from tests.api.flow_tasks import FlowApp


@pytest.fixture
def app() -> FlowApp:
    return FlowApp(Herd("localhost:1"))


def order_of(flow: Flow) -> Order:
    return flow._order(None)


def new_flow(flow: Flow) -> NewFlow:
    task = order_of(flow).task
    assert isinstance(task, NewFlow)
    return task


def calls_of(new: NewFlow) -> list[Call]:
    return [decode_call(step.data) for step in new.steps]


def steps_of(new: NewFlow) -> list[FlowStep]:
    return [call.flow for call in calls_of(new) if call.flow is not None]


def test_a_step_has_edges_of_its_parents_unless_it_follows_a_single_one(app: FlowApp) -> None:
    with app.herd.flow("report") as flow:
        pages = app.fetch.step("a")
        app.store.step({})
        found = app.parse.step(pages)
        app.merge.step([app.store.step(found)], after=pages)
        app.merge.using(on="failure").step([1, app.store.step(found)])
    new = new_flow(flow)

    waiting = [(step.entry, step.edges) for step in new.steps]
    assert waiting == [("0", ()), ("1", ()), ("0:2", ()), ("2:3", ()), ("4", ("3", "0")), ("2:5", ()), ("6!", ("5",))]
    assert [step.joins for step in steps_of(new)] == [("4",), (), (), ("4",), (), ("6!",), ()]
    assert [step.after for step in steps_of(new)] == [(), (), (), (), ("0",), (), ()]
    assert steps_of(new)[6].refs == (Reference(("args", 0, 1), "5"),)
    assert [step.is_root for step in new.steps] == [True, True, False, False, False, False, False]
    assert {parsed.step for step in new.steps if (parsed := parse_task_name(step.task)) is not None} == {True}
    assert [step.task for step in steps_of(new)] == [step.task for step in new.steps]


def test_an_each_carries_the_payload_of_its_items(app: FlowApp) -> None:
    measure = app.measure.options(queue="slow", priority=7, max_attempts=3)
    with app.herd.flow("report") as flow:
        unit = app.notify.step("kB")
        sizes = flow.each(measure, app.fetch.step("a"), unit=unit)
        flow.each(app.shift, flow.each(app.point, sizes))
        app.total.step(sizes)
    new = new_flow(flow)

    made = calls_of(new)[2]
    assert (made.call, made.flow and made.flow.refs) == (EACH_CALL, (Reference((), "1"),))
    assert made.flow is not None
    assert (made.flow.after, made.flow.joins) == (("0",), ("3", "5"))
    each = made.flow.each
    assert each is not None
    assert (each.queue, each.priority) == ("slow", 7)
    item = msgspec.json.decode(bytes(each.item), type=Call)
    assert (bytes(item.args), item.call) == (b"[null]", app.measure.call)
    assert item.options is not None
    assert item.options.max_attempts == 3
    assert item.flow is not None
    assert (item.flow.step, item.flow.task, item.flow.joins) == ("", "", ("3", "5"))
    assert item.flow.refs == (Reference(("kwargs", "unit"), "0"),)
    parsed = parse_task_name(new.steps[2].task)
    assert parsed is not None
    assert (parsed.queue, parsed.priority) == ("slow", 7)
    assert steps_of(new)[3].refs == (Reference((), "2", each=True),)
    assert [step.entry for step in new.steps] == ["0", "1", "2", "3", "4", "5"]  # what waits for an each has edges
    assert steps_of(new)[5].refs == (Reference(("args", 0), "2", each=True),)


def test_the_header_says_what_was_asked_for(app: FlowApp) -> None:
    with app.herd.flow("report", timeout=60, keep_outcome=5.0, on_failure="stop") as flow:
        total = app.total.step([1])
        flow.returns({"a": [total, 1], "b": (total,)})
    header = new_flow(flow).header

    assert (header.name, header.steps, header.timeout, header.ttl, header.keep) == ("report", 1, 60.0, 5.0, True)
    assert header.on_failure is OnFailure.STOP
    assert header.returns is not None
    assert bytes(header.returns.value) == b'{"a":[null,1],"b":[null]}'
    assert header.returns.refs == (Reference(("a", 0), "0"), Reference(("b", 0), "0"))
    assert (header.parent, header.child, header.key) == (None, False, None)


def test_submissions_of_one_flow_have_names_of_their_own_and_a_key_gives_one(app: FlowApp) -> None:
    with app.herd.flow("report") as flow:
        app.total.step([1])
    first, second = new_flow(flow), new_flow(flow)
    assert first.flow != second.flow
    assert first.steps[0].task != second.steps[0].task

    keyed: list[NewFlow] = []
    for name, key in (("a", "k"), ("a", "k"), ("a", "other"), ("b", "k")):
        with app.herd.flow(name, key=key) as flow:
            app.total.step([1])
        keyed.append(new_flow(flow))
    assert keyed[0].flow == keyed[1].flow
    assert len({each.flow for each in keyed}) == 3
    assert len({each.name for each in keyed}) == 4


def test_steps_are_signed_for_their_tasks() -> None:
    app = FlowApp(Herd("localhost:1", signing_keys={"a": b"x" * 32}))
    with app.herd.flow("report") as flow:
        app.measure.step("x" * 5000)
        app.total.step([1])
    keyring = Keyring({"a": b"x" * 32})
    for step in new_flow(flow).steps:
        keyring.verify_task(step.task, step.data)
        parsed = parse_task_name(step.task)
        assert parsed is not None
        assert parsed.big == (len(step.data) > 4096)


def test_what_is_too_large_is_named(app: FlowApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MAX_PAYLOAD", 40_000)
    with app.herd.flow("wide") as flow:
        app.total.step([app.total.step([number]) for number in range(1200)])
    with pytest.raises(PayloadTooLarge) as raised:
        order_of(flow)
    assert "<Step 1200 total>; nothing was submitted. It gets the results of 1200 steps" in raised.value.__notes__[0]

    with app.herd.flow("large result") as flow:
        flow.returns(["x" * 600_000, app.total.step([1])])
    with pytest.raises(PayloadTooLarge):
        order_of(flow)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"timeout": 0}, "timeout=0"),
        ({"ttl": "a day"}, "ttl='a day'"),
        ({"on_failure": "go"}, "on_failure='go'"),
        ({"key": ""}, "key=''"),
        ({"key": 5}, "key=5"),
        ({"key": "\ud800"}, r"key='\\ud800'.*without lone surrogates"),
        ({"child": 1}, "child=1"),
        ({"on_duplicate": "x"}, "on_duplicate='x'"),
        ({"keep_outcome": 5, "ttl": 5}, "both say how long"),
    ],
)
def test_options_that_cannot_work_are_refused(app: FlowApp, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        app.herd.flow("report", **options)


def test_a_flow_that_cannot_be_submitted_is_refused(app: FlowApp) -> None:
    with pytest.raises(TypeError, match="timout= is no option of a flow: the options are timeout"):
        app.herd.flow("report", timout=5)  # type: ignore[call-arg]  # a type checker says it, too
    for name in ("", "x" * 201, "\ud800"):
        with pytest.raises(ConfigurationError, match="is no name of a flow"):
            app.herd.flow(name)
    with pytest.raises(ConfigurationError, match="has no steps"):
        order_of(app.herd.flow("empty"))
    with app.herd.flow("no files") as flow:
        flow.returns(flow.each(app.measure, []))
    with pytest.raises(ConfigurationError, match=r"`each` over \[\] makes none"):
        order_of(flow)
    with app.herd.flow("child", child=True) as flow:
        app.total.step([1])
    with pytest.raises(ConfigurationError, match="child=True is for a flow that a task submits"):
        order_of(flow)
    with task_context(), app.herd.flow("child", child=True, key="k") as flow:
        app.total.step([1])
        with pytest.raises(ConfigurationError, match="child=True and key= exclude each other"):
            order_of(flow)
    with app.herd.flow("result") as flow:
        flow.returns([app.total.step([1]), object()])
    with pytest.raises(NotSerializable, match="what the flow returns"):
        order_of(flow)
    with pytest.raises(ConfigurationError, match=r"name='\\ud800'.*without lone surrogates"):
        app.total.using(name="\ud800")
    other: Any = len
    with pytest.raises(ConfigurationError, match="is no task"):
        flow.each(other, [])
    assert core_of(app.herd).registry is not None


def test_a_flow_is_ordered_again_with_the_same_result_and_no_other(app: FlowApp) -> None:
    with app.herd.flow("again") as flow:
        total, other = app.total.step([1]), app.total.step([2])
    first, second = flow._order(total).task, flow._order(total).task
    assert isinstance(first, NewFlow)
    assert isinstance(second, NewFlow)
    assert first.name != second.name
    assert first.header.returns == second.header.returns
    with pytest.raises(ConfigurationError, match="was submitted, and takes no more steps"):
        flow._order(other)
