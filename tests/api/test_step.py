"""Steps: what may be done with them, and what is refused where it is written."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from herdmaster import ConfigurationError, Herd, NotSerializable, WrongArguments
from herdmaster.api.internals import core_of
from herdmaster.api.step import Step, StepNode
from tests.api.flow_tasks import FlowApp


@pytest.fixture
def app() -> FlowApp:
    return FlowApp(Herd("localhost:1"))


def node(step: object) -> StepNode:
    assert isinstance(step, Step)
    return core_of(step)


USES: dict[str, Callable[[Any], object]] = {
    "truth": bool,
    "iteration": list,
    "length": len,
    "comparison": lambda step: step == [],
    "order": lambda step: step < 3,
    "item": lambda step: step[0],
    "membership": lambda step: 1 in step,
    "arithmetic": lambda step: step + 1,
    "reverse arithmetic": lambda step: 1 + step,
    "call": lambda step: step(),
    "text": lambda step: f"{step}",
    "copy": copy.copy,
    "number": int,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_result_of_a_step_cannot_be_used_before_it_is_known(app: FlowApp, use: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="the result of <Step fetch> is known only when it has run"):
        use(app.fetch.step("a"))


def test_a_step_has_no_attributes_of_its_result_and_is_itself(app: FlowApp) -> None:
    step: Any = app.fetch.step("a")
    with pytest.raises(AttributeError, match="a step has no attribute 'append'"):
        step.append(1)
    assert step == step  # noqa: PLR0124 - what is tested
    assert {step: 1}[step] == 1


def test_arguments_are_checked_where_the_step_is_written(app: FlowApp) -> None:
    pages = app.fetch.step("a")
    wrong: Any = app.merge
    with pytest.raises(WrongArguments, match="takes no argument `titel`"):
        wrong.step(pages, titel="x")
    with pytest.raises(WrongArguments, match="does not fit"):
        wrong.step([1, "a"])
    with pytest.raises(NotSerializable, match="argument 1"):
        wrong.step(object())
    with pytest.raises(WrongArguments, match="takes 1 positional"):
        wrong.step([1], 2)
    wrong.step([1, app.store.step({})])  # what is not known yet is not checked


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (lambda step: {step}, "stands in a set"),
        (lambda step: {step: 1}, "key of a dict"),
        (lambda step: {1: step}, "keys that are text"),
    ],
)
def test_a_step_in_a_place_that_no_path_leads_to_is_refused(
    app: FlowApp, value: Callable[[object], object], text: str
) -> None:
    step = app.fetch.step("a")
    take: Any = app.store
    with pytest.raises(ConfigurationError, match=text):
        take.step(value(step))


def test_an_argument_that_contains_itself_is_refused(app: FlowApp) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NotSerializable, match="contains itself"):
        app.total.step(endless)


def test_steps_may_stand_anywhere_in_lists_tuples_and_dicts(app: FlowApp) -> None:
    one, other = app.store.step({}), app.store.step({"a": 1})
    take: Any = app.total
    step = node(take.step([1, {"x": (one, 2)}, other], extra=one))

    places = {each.at: each.step for each in step.written.found}
    assert places == {("args", 0, 1, "x", 0): one, ("args", 0, 2): other, ("kwargs", "extra"): one}
    assert bytes(step.written.args) == b'[[1,{"x":[null,2]},null]]'
    assert step.parents == (node(one), node(other))


def test_a_step_is_no_argument_of_a_plain_submission(app: FlowApp) -> None:
    submit: Any = app.merge.submit
    with pytest.raises(NotSerializable, match="only another step gets the result of a step"):
        submit(app.total.step([]))


# --- chains ----------------------------------------------------------------------------------------------------------


def test_the_result_goes_into_the_next_step_of_a_chain_as_first_argument(app: FlowApp) -> None:
    fetched = app.fetch.step("a")
    chain = fetched | app.parse.step(strict=True) | app.store.step()

    stored = node(chain)
    (parsed,) = stored.parents
    assert parsed.parents == (node(fetched),)
    assert bytes(parsed.written.kwargs) == b'{"strict":true}'
    assert bytes(parsed.written.args) == b"[null]"


def test_a_chain_can_be_written_before_its_first_step(app: FlowApp) -> None:
    rest = app.parse.step() | app.store.step()
    chain: Any = app.fetch.step("a") | rest

    assert chain is rest
    assert [each.callee.call.rpartition(":")[2] for each in node(chain).parents[0].parents] == ["fetch"]
    assert node(chain).open_end is None


def test_a_list_of_steps_and_a_value_begin_a_chain(app: FlowApp) -> None:
    chain = [app.store.step({}), app.store.step({"a": 1})] | app.total.step()
    assert len(node(chain).parents) == 2
    assert bytes(node(["a"] | app.parse.step()).written.args) == b'[["a"]]'


def test_a_step_that_lacks_its_first_argument_is_no_argument(app: FlowApp) -> None:
    lacking: Any = app.parse.step()
    with pytest.raises(ConfigurationError, match=r"<Step parse> lacks its first argument.*\| parse\.step\(\)"):
        app.store.step(lacking)
    with pytest.raises(WrongArguments):
        app.measure.step(unit=3, page="x")  # type: ignore[call-overload]  # what is wrong otherwise is not lacking


def test_a_chain_is_written_from_left_to_right(app: FlowApp) -> None:
    total: Any = app.total.step([1])
    app.merge.step([total])
    with pytest.raises(ConfigurationError, match="another step waits for <Step total> already"):
        app.store.step({}) | total
    with pytest.raises(TypeError, match="chained with another one"):
        total | "x"


# --- what a flow asks of steps ---------------------------------------------------------------------------------------


def test_a_keyword_belongs_to_the_flow_unless_the_function_has_such_a_parameter(app: FlowApp) -> None:
    total = app.merge.step([1])
    other = app.merge.step([2])

    assert node(app.merge.step([1], after=total)).step_options.after == (node(total),)
    plain = node(app.notify.step(total, after="!"))
    assert plain.step_options.after == ()
    assert bytes(plain.written.kwargs) == b'{"after":"!"}'
    both = node(app.notify.using(after=[other], on="failure", name="tell").step(total, after="!"))
    assert (both.step_options.mark, both.name) == ("!", "tell")
    assert both.parents == (node(total), node(other))
    assert node(app.merge.step([1], after=(total, other, total), optional=True)).step_options.mark == "?"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on": "sometimes"}, "on='sometimes'"),
        ({"optional": 1}, "optional=1"),
        ({"on": "failure", "optional": True}, "exclude each other"),
        ({"after": "fetch"}, "after= takes steps of this flow"),
        ({"after": [3]}, "after= takes steps of this flow"),
        ({"name": ""}, "name=''"),
    ],
)
def test_what_a_flow_cannot_do_is_refused(app: FlowApp, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        app.merge.using(**options).step([app.total.step([])])


def test_a_condition_needs_a_step_that_it_is_about(app: FlowApp) -> None:
    for options in ({"on": "failure"}, {"optional": True}):
        with pytest.raises(ConfigurationError, match="waits for no step"):
            app.merge.using(**options).step([1])


@pytest.mark.parametrize("option", [{"key": "a"}, {"delay": 1}, {"expires": 5}])
def test_options_that_no_step_can_have_are_refused(app: FlowApp, option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(ConfigurationError, match=rf"{name}= does not hold for a step.*task\.options\({name}=None\)"):
        app.fetch.options(**option).step("a")
    taken_away: dict[str, Any] = {name: None}
    app.fetch.options(**option).options(**taken_away).step("a")


def test_a_dropped_flow_leaves_no_step_to_the_collector(app: FlowApp) -> None:
    gc.disable()
    try:
        with app.herd.flow("small") as flow:
            step: Any = app.store.step({})
            flow.returns(app.total.step([step]))
        seen = weakref.ref(step)
        del flow, step
        assert seen() is None
    finally:
        gc.enable()


def test_a_step_of_a_flow_that_is_gone_names_it(app: FlowApp) -> None:
    with app.herd.flow("gone"):
        page: Any = app.fetch.step("a")
    gc.collect()
    refusal = "<Step 0 fetch> belongs to the flow 'gone', and cannot be used in"
    with pytest.raises(ConfigurationError, match=refusal), app.herd.flow("other"):
        app.parse.step(page)


def test_a_step_of_a_flow_that_is_gone_takes_no_argument(app: FlowApp) -> None:
    lacking: Any = None
    with pytest.raises(ConfigurationError, match="lacks its first argument"), app.herd.flow("gone"):
        lacking = app.parse.step()
    gc.collect()
    with pytest.raises(ConfigurationError, match="belongs to the flow 'gone', which is gone: keep a flow while"):
        "a" | lacking
