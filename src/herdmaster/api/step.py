"""A step: one call in a flow, which stands for its result until that is known."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Concatenate, Literal, NoReturn, ParamSpec, Protocol, TypeVar

import msgspec

from herdmaster.api.callee import Callee
from herdmaster.api.internals import core_of
from herdmaster.api.options import TaskOptions
from herdmaster.api.step_arguments import Written, write_step
from herdmaster.core.flows import Mark
from herdmaster.errors import ConfigurationError, WrongArguments

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
Q = ParamSpec("Q")
A_contra = TypeVar("A_contra", contravariant=True)
B_co = TypeVar("B_co", covariant=True)

On = Literal["success", "failure"]


class Link(Protocol[A_contra, B_co]):
    """A step that lacks its first argument: `fetch.step(url) | parse.step()` gives it the result of the step before."""

    def __ror__(self, left: A_contra, /) -> B_co: ...

    def __or__(self: Link[A, B], right: Link[B, C], /) -> Link[A, C]: ...


class Takes(Protocol[A_contra, Q, B_co]):
    """A task by its first parameter and the others."""

    @property
    def function(self) -> Callable[Concatenate[A_contra, Q], B_co]: ...


class StepOptions(msgspec.Struct, frozen=True):
    """What a flow asks of a step. `mark` is that of its entry: it waits for a failure, or goes on without parents that
    failed. `name` is shown in place of the function's. `chunk_size` is how many items of an `each` one step runs; None
    leaves it to the worker."""

    mark: Mark = ""
    after: tuple[StepNode, ...] = ()
    name: str | None = None
    chunk_size: int | None = None


class Graph(Protocol):
    """A flow, or what a running step adds to its own. `title` is what errors call it."""

    title: str

    def add(self, node: StepNode) -> None:
        """Take a step, and its parents that belong to no flow yet, into the flow. Raises ConfigurationError."""

    def check_free(self, node: StepNode) -> None:
        """Raise ConfigurationError if the arguments of a step cannot change any more."""

    def filled(self) -> None:
        """Note that a step of this flow has got the argument that it lacked. Raises as the encoding of steps does."""


class _GoneGraph:
    """In place of a flow that the program has dropped, although it kept a step of it. `title` is that of the flow."""

    def __init__(self, title: str) -> None:
        self.title = title

    def __repr__(self) -> str:
        return self.title

    def add(self, node: StepNode) -> None:
        raise ConfigurationError(f"{node!r} belongs to {self!r}, which is gone: keep a flow while its steps change")

    def check_free(self, node: StepNode) -> None:
        self.add(node)

    def filled(self) -> None:
        """The flow was dropped before its step had its argument: nothing of it is submitted."""


class StepNode:
    """The internal half of a `Step`: a call in the graph of a flow.

    Until something adds it to a flow, `graph` is None. A flow holds its steps, and a step no flow: the cycles would be
    left to the collector, which a client of thousands of flows pays for. `is_each`: there is one task for each element
    of the result of `over`, which becomes the first argument; `chunk_size` and `is_flat` are as of `core.flows.Each`.
    `lacks_first`: its first argument is to come by a `|`; `before` is the step that is to give it, if that one lacks
    its own.
    """

    __slots__ = (
        "_graph", "_title", "args", "before", "callee", "chunk_size", "id", "is_each", "is_flat", "is_used", "kwargs",
        "lacks_first", "options", "over", "step_options", "written",
    )  # fmt: skip

    def __init__(self, callee: Callee, options: TaskOptions, step_options: StepOptions) -> None:
        self.callee = callee
        self.options = options
        self.step_options = step_options
        self.args: tuple[object, ...] = ()
        self.kwargs: Mapping[str, object] = {}
        self._graph: weakref.ref[Graph] | None = None
        self._title = ""
        self.id = ""
        self.is_each = False
        self.over: StepNode | None = None
        self.chunk_size: int | None = None
        self.is_flat = False
        self.is_used = False
        self.lacks_first = False
        self.before: StepNode | None = None
        self.written: Written

    @property
    def graph(self) -> Graph | None:
        return None if self._graph is None else self._graph() or _GoneGraph(self._title)

    @graph.setter
    def graph(self, graph: Graph) -> None:
        self._graph, self._title = weakref.ref(graph), graph.title

    @property
    def name(self) -> str:
        return self.step_options.name or self.callee.call.rpartition(":")[2]

    def __repr__(self) -> str:
        return repr(Step(self))

    # --- arguments ---------------------------------------------------------------------------------------------------

    def give(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Set the arguments. Raises NotSerializable, WrongArguments; ConfigurationError for a step that is none."""
        self.args, self.kwargs = tuple(args), dict(kwargs)
        try:
            self.written = write_step(self.callee, self.args, self.kwargs, Step)
        except WrongArguments as error:
            if not error.lacks_parameter:
                raise
            try:  # only the first one may be missing
                write_step(self.callee, (Step(self), *self.args), self.kwargs, Step)
            except WrongArguments:
                raise error from None
            self.lacks_first = True
            self.written = write_step(msgspec.structs.replace(self.callee, signature=None), args, kwargs, Step)
        for parent in self.parents:
            parent.check_complete()
            parent.is_used = True

    def give_item(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Set the arguments of an `each` but the first, which each item gets by itself. Raises as `give`."""
        item = StepNode(self.callee, self.options, self.step_options)  # stands for any element
        self.args, self.kwargs = (Step(item), *args), dict(kwargs)
        written = write_step(self.callee, self.args, self.kwargs, Step)
        self.written = written._replace(found=written.found[1:])
        for parent in self.parents:
            parent.check_complete()
            parent.is_used = True

    def give_first(self, left: object) -> None:
        """Put a value, or a step, before the other arguments; those of the first step of a chain that lacks one. Raises
        as `give`."""
        lacking = self.open_end
        node = lacking or self
        if lacking is None and self.is_used:
            raise ConfigurationError(
                f"another step waits for {self!r} already: write the steps of a chain from left to right"
            )
        if node.graph is not None:
            node.graph.check_free(node)
        node.lacks_first = False
        node.args = (left, *node.args)
        node.written = write_step(node.callee, node.args, node.kwargs, Step)
        if isinstance(left, Step):
            before = core_of(left)
            before.is_used = True
            node.before = before if before.open_end is not None else None
        for parent in node.parents:
            parent.is_used = True
        if node.graph is not None and node.open_end is None:
            node.graph.filled()

    @property
    def open_end(self) -> StepNode | None:
        """The step of the chain before this one, or this one, that lacks its first argument; None if all is there."""
        node = self
        while node.before is not None:
            node = node.before
        return node if node.lacks_first else None

    def check_complete(self) -> None:
        """Raise ConfigurationError if an argument is missing, here or in the chain before."""
        lacking = self.open_end
        if lacking is not None:
            raise ConfigurationError(
                f"{lacking!r} lacks its first argument: give it one, or chain it, as in "
                f"`fetch.step(url) | {lacking.name}.step()`"
            )

    # --- the graph ---------------------------------------------------------------------------------------------------

    @property
    def parents(self) -> tuple[StepNode, ...]:
        """The steps that this one waits for, each once."""
        if not self.written.found and self.over is None and not self.step_options.after:
            return ()
        found = [core_of(each.step) for each in self.written.found if isinstance(each.step, Step)]
        over = () if self.over is None else (self.over,)
        return tuple(dict.fromkeys((*over, *found, *self.step_options.after)))


class Step:
    """A call in a flow. It stands for its result: use it as an argument of other steps, alone or in a list, tuple or
    dict. A type checker takes it for the result itself, so nothing but that may be done with it."""

    __slots__ = ("__weakref__", "_core")

    def __init__(self, core: StepNode) -> None:
        self._core = core

    def __repr__(self) -> str:
        node = self._core
        number = f" {node.id}" if node.id else ""
        return f"<Step{number} {node.name}{' of each' if node.is_each else ''}>"

    def __or__(self, right: object) -> Step:
        if not isinstance(right, Step):
            raise TypeError(f"a step is chained with another one, as in `| parse.step()`, not with {right!r}")
        return right.__ror__(self)

    def __ror__(self, left: object) -> Step:
        self._core.give_first(left)
        return self

    def _refuse(self, *_args: object) -> NoReturn:
        raise TypeError(
            f"the result of {self!r} is known only when it has run: pass the step to another one, which gets the result"
        )

    __bool__ = __len__ = __iter__ = __aiter__ = __await__ = __getitem__ = __contains__ = __call__ = _refuse
    __int__ = __float__ = __index__ = __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __sub__ = _refuse
    __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __mod__ = __enter__ = __exit__ = _refuse
    __bytes__ = __format__ = __reduce__ = _refuse

    def __eq__(self, other: object) -> bool:
        return other is self or self._refuse()

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"a step has no attribute {name!r}: the result of {self!r} is known only when it has run; pass the step to "
            "another one, which gets the result"
        )


class Flat:
    """The elements of the lists that a step stands for, as `Flow.flat` returns it. Only `Flow.each` takes it."""

    __slots__ = ("step",)

    def __init__(self, step: Step) -> None:
        self.step = step

    def __repr__(self) -> str:
        return f"<elements of {self.step!r}>"


def steps_of(value: object, what: str) -> tuple[StepNode, ...]:
    """Return the steps of `after=`: one, or several in a list or tuple. Raises ConfigurationError."""
    items: Iterable[object] = value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    found: list[StepNode] = []
    for each in items:
        if not isinstance(each, Step):
            raise ConfigurationError(f"{what} takes steps of this flow, what `fn.step(...)` returned, not {each!r}")
        found.append(core_of(each))
    return tuple(dict.fromkeys(found))
