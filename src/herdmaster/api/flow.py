"""`Flow`: a graph of steps that is submitted as one thing."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar, cast, overload

from herdmaster.api.event_loops import refuse_in_loop
from herdmaster.api.flow_future import FlowFuture
from herdmaster.api.flow_nodes import FlowNodes, current_graph
from herdmaster.api.flow_options import CheckedFlow
from herdmaster.api.flow_order import order_flow
from herdmaster.api.internals import core_of
from herdmaster.api.step import Flat, Graph, Step, StepNode
from herdmaster.api.step_arguments import Found, take_out
from herdmaster.api.step_calls import StepCall, check_elements, new_each, plain_call, plain_size, with_chunk_size
from herdmaster.api.submitting import submit_and_wait, submit_and_wait_async
from herdmaster.core.flow_graph import ON_FAILURE
from herdmaster.errors import ConfigurationError
from herdmaster.inspection.flow_pictures import to_dot, to_svg
from herdmaster.inspection.flow_seen import StepInfo, StepState

if TYPE_CHECKING:
    from herdmaster.api.herd_core import HerdCore
    from herdmaster.api.order import Order
    from herdmaster.api.task import Task

A = TypeVar("A")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
_SUBMITTED = "was submitted, and takes no more steps: write another one"


class Flow:
    """A flow that is being written. In its `with` block, `fn.step(...)` adds a step; `submit` submits the whole.

    An error in the block submits nothing. A flow may be submitted several times: each is a run of its own.
    """

    def __init__(self, core: HerdCore, options: CheckedFlow) -> None:
        self._core = core
        self._options = options
        self._nodes = FlowNodes(options.name)
        self._returns: object = None
        self._entered: list[Token[Graph | None]] = []

    def __repr__(self) -> str:
        return f"<Flow {self._options.name}: {len(self._nodes.nodes)} steps>"

    def __enter__(self) -> Self:
        self._nodes.check_open()
        self._entered.append(current_graph.set(self._nodes))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        current_graph.reset(self._entered.pop())
        if kind is not None:
            self._nodes.close(f"is incomplete: its block ended with {kind.__name__}")
        else:
            self._nodes.check_complete()

    # --- steps -------------------------------------------------------------------------------------------------------

    def add(self, step: T) -> T:
        """Add a step, or several in a list, tuple or dict, that were written outside of the block, and the steps that
        they wait for. Return the same. Raises ConfigurationError for steps of another flow."""
        for node in _steps_in(step, "add"):
            node.check_complete()
            self._nodes.add(node)
        return step

    @overload
    def each(
        self, task: Task[Concatenate[A, Q], R], over: Iterable[A], /, *args: Q.args, **kwargs: Q.kwargs
    ) -> list[R]: ...

    @overload
    def each(
        self, task: StepCall[Concatenate[A, Q], R], over: Iterable[A], /, *args: Q.args, **kwargs: Q.kwargs
    ) -> list[R]: ...

    @overload
    def each(
        self,
        task: Task[..., R] | StepCall[..., R],
        over: Iterable[object],
        /,
        *args: object,
        chunk_size: int,
        **kwargs: object,
    ) -> list[R]: ...

    def each(self, task: Any, over: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Add a task for each element of a list: the element is the first argument. `over` is a step that returns a
        list, whose length is known only when that has run, or a list that is known now.

        With `chunk_size` a task calls the function for so many elements of the result of a step, one after the other;
        if the function has such a parameter, `task.using(chunk_size=...)` says it. Without it a task has one element if
        there are at most 10,000 or the function has a time limit; of more elements, 10,000 tasks are made.

        Return what stands for the list of the results, in order. A step that gets it waits for all of them. Raises as
        `Task.step`.
        """
        call = with_chunk_size(plain_call(task), kwargs)
        if isinstance(over, (Step, Flat)):
            return new_each(self._nodes, call, over, args, kwargs)
        check_elements(over)
        if call.step_options.chunk_size not in (None, 1):
            raise ConfigurationError("chunk_size= is for the result of a step: let a step return this list")
        call = plain_size(call)
        entered = current_graph.set(self._nodes)
        try:
            return [call.step(element, *args, **kwargs) for element in over]
        finally:
            current_graph.reset(entered)

    def flat(self, lists: Iterable[Iterable[A]], /) -> Iterable[A]:
        """Return what stands for the elements of all lists that a step, or the items of an `each`, returned, in order.
        It is for `each`: one result has at most 488 KiB of elements, and the results of many steps have more. Raises
        ConfigurationError for what is no step."""
        if not isinstance(lists, Step):
            raise ConfigurationError(f"flat takes a step, or what `each` over a step returned, not {lists!r}")
        return cast("Iterable[A]", Flat(lists))

    def returns(self, value: object) -> None:
        """Say what the result of the flow is: a step, what `each` returned, or a list, tuple or dict of such. An empty
        list is what `each` makes of one. Without it the result is None. Raises ConfigurationError for steps of another
        flow, NotSerializable."""
        self._nodes.check_open()
        for node in _steps_in(value, "returns") if not _is_empty(value) else ():
            node.check_complete()
            self._nodes.add(node)
        self._returns = value

    # --- submission --------------------------------------------------------------------------------------------------

    @overload
    def submit(self, /) -> FlowFuture[object]: ...

    @overload
    def submit(self, returns: T, /) -> FlowFuture[T]: ...

    def submit(self, returns: object = None, /) -> Any:
        """Submit the flow and return its future once the flow is accepted: from then on it is not lost. `returns` is
        as for the method `returns`: `herd.flow("etl").submit(fetch.step(url) | parse.step())`.

        With `key=` the future may be that of the flow that already has the key. Raises ConfigurationError for a flow
        without steps, PayloadTooLarge, NotSubmitted if the flow was certainly not accepted in `submit_timeout`,
        SubmissionUnknown if that is unknown, DuplicateTask as the options ask for, RuntimeError inside a running event
        loop.
        """
        refuse_in_loop("submit", "await flow.submit_async(...)")
        return submit_and_wait(self._core, self._order(returns))

    @overload
    async def submit_async(self, /) -> FlowFuture[object]: ...

    @overload
    async def submit_async(self, returns: T, /) -> FlowFuture[T]: ...

    async def submit_async(self, returns: object = None, /) -> Any:
        """As `submit`, for event loops. If it is cancelled, the flow may have been accepted nevertheless."""
        return await submit_and_wait_async(self._core, self._order(returns))

    def _order(self, returns: object) -> Order:
        core, nodes = self._core, self._nodes
        if returns is not None and not (nodes.is_submitted and returns is self._returns):
            self.returns(returns)
        if not nodes.is_submitted:
            nodes.check_open()
        nodes.check_complete()
        order = order_flow(
            core.new_ulid(), self._options, nodes.nodes, self._returns, spans=core.spans, keyring=core.keyring
        )
        nodes.is_submitted = True
        nodes.close(_SUBMITTED)
        return order

    # --- pictures ----------------------------------------------------------------------------------------------------

    def to_dot(self) -> str:
        """Return the graph in the language of Graphviz."""
        return to_dot(self._seen(), self._options.name)

    def _repr_svg_(self) -> str:
        """Return the picture that a notebook shows."""
        return to_svg(self._seen(), self._options.name)

    def _seen(self) -> Iterable[StepInfo]:
        for node in self._nodes.nodes:
            parents = tuple(parent.id for parent in node.parents)
            mark = node.step_options.mark
            when: Literal["", "failure", "optional"] = "optional"
            if mark in ("", ON_FAILURE):
                when = "failure" if mark else ""
            yield StepInfo(node.id, node.name, StepState.WAITING, parents, when=when)


def _is_empty(value: object) -> bool:
    """Return whether it is what `each` makes of an empty list."""
    return isinstance(value, list) and not value


def _steps_in(value: object, what: str) -> list[StepNode]:
    found: list[Found] = []
    take_out(value, Step, (), found)
    if not found:
        raise ConfigurationError(f"{what} takes a step, or a list, tuple or dict of steps, not {value!r}")
    return [core_of(each.step) for each in found if isinstance(each.step, Step)]
