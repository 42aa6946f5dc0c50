"""Makes steps: what `fn.step(...)`, `fn.using(...)` and `flow.each(...)` do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast, overload

import msgspec

from herdmaster.api.added_nodes import graph_of_task
from herdmaster.api.callee import Callee
from herdmaster.api.checks import check_flag, is_text
from herdmaster.api.flow_nodes import current_graph
from herdmaster.api.internals import HasCore, core_of
from herdmaster.api.options import TaskOptions, refuse_children
from herdmaster.api.step import Flat, Graph, Link, Step, StepNode, StepOptions, Takes, steps_of
from herdmaster.core.chunk import MAX_ITEMS
from herdmaster.core.flow_graph import ON_FAILURE, OPTIONAL
from herdmaster.core.flows import Mark
from herdmaster.core.options import RunOptions, apply_overrides
from herdmaster.errors import ConfigurationError

if TYPE_CHECKING:
    from herdmaster.api.herd_core import HerdCore

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
Q = ParamSpec("Q")
S = TypeVar("S")

EXTRAS: Final = ("on", "after", "optional")
"""The keywords of `fn.step` that are not the function's own, unless it has a parameter of that name."""
_PLAIN: Final = StepOptions()


class Steppable(Protocol):
    """The part of a `TaskCore` that is used here."""

    function: Callable[..., object]
    options: TaskOptions
    registered: RunOptions
    herd: HerdCore

    def callee(self) -> Callee: ...


class StepCall(Generic[P, R]):
    """A task with what a flow asks of its step, as `fn.using(...)` returns it."""

    __slots__ = ("_core", "step_options")
    _core: Steppable

    def __init__(self, core: Steppable, step_options: StepOptions) -> None:
        self._core = core
        self.step_options = step_options

    def __repr__(self) -> str:
        return f"<StepCall of {self._core.callee().call}>"

    @property
    def function(self) -> Callable[P, R]:
        """The function itself."""
        return cast("Callable[P, R]", self._core.function)

    # As for `Task.step`.
    @overload
    def step(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...  # type: ignore[overload-overlap]

    @overload
    def step(self: Takes[A, Q, S], /, *args: Q.args, **kwargs: Q.kwargs) -> Link[A, S]: ...

    def step(self, /, *args: Any, **kwargs: Any) -> Any:
        """As `Task.step`; all arguments are the function's."""
        return new_step(self._core, args, kwargs, self.step_options)


def plain_call(task: object) -> StepCall[..., object]:
    """Return a task, or what `using` returned, as the latter. Raises ConfigurationError for anything else."""
    if isinstance(task, StepCall):
        return task
    if hasattr(task, "submit_async"):
        return StepCall(core_of(cast("HasCore[Steppable]", task)), _PLAIN)
    raise ConfigurationError(f"{task!r} is no task: register it with @herd.task")


def step_options(given: Mapping[str, object], name: object = None, chunk_size: object = None) -> StepOptions:
    """Check what a flow asks of a step. Raises ConfigurationError."""
    on = given.get("on", "success")
    if on not in ("success", "failure"):
        raise ConfigurationError(f"on={on!r}: it takes 'success' (the default) or 'failure'")
    is_optional = check_flag("optional", given.get("optional", False))
    if on == "failure" and is_optional:
        raise ConfigurationError(
            'on="failure" and optional=True exclude each other: the first runs only if a parent is not done, the '
            "second always"
        )
    after = given.get("after")
    if name is not None and not is_text(name):
        raise ConfigurationError(f"name={name!r}: it takes text that is not empty, without lone surrogates")
    mark: Mark = ON_FAILURE if on == "failure" else OPTIONAL if is_optional else ""
    return StepOptions(mark, () if after is None else steps_of(after, "after="), name, check_chunk_size(chunk_size))


def check_chunk_size(given: object) -> int | None:
    """Return how many items one step of an `each` runs. Raises ConfigurationError."""
    if given is None:
        return None
    if type(given) is not int or not 1 <= given <= MAX_ITEMS:
        raise ConfigurationError(f"chunk_size={given!r}: from 1 to {MAX_ITEMS} items make a chunk")
    return given


def step_with_extras(core: Steppable, args: Sequence[object], kwargs: dict[str, object]) -> Step:
    """Make a step. Of the keywords, those of `EXTRAS` that no parameter of the function has are for the flow."""
    extras: dict[str, object] = {}
    if not kwargs.keys().isdisjoint(EXTRAS):
        signature = core.callee().signature
        for name in EXTRAS:
            if name in kwargs and (signature is None or not signature.takes(name)):
                extras[name] = kwargs.pop(name)
    return new_step(core, args, kwargs, step_options(extras) if extras else _PLAIN)


def with_chunk_size(call: StepCall[P, R], kwargs: dict[str, object]) -> StepCall[P, R]:
    """Take `chunk_size` out of the keywords of an `each`, unless the function has such a parameter. Raises
    ConfigurationError."""
    if "chunk_size" not in kwargs:
        return call
    signature = core_of(call).callee().signature
    if signature is not None and signature.takes("chunk_size"):
        return call
    size = check_chunk_size(kwargs.pop("chunk_size"))
    return StepCall(core_of(call), msgspec.structs.replace(call.step_options, chunk_size=size))


def plain_size(call: StepCall[P, R]) -> StepCall[P, R]:
    """Return the call of a step that runs one item."""
    return StepCall(core_of(call), msgspec.structs.replace(call.step_options, chunk_size=None))


def check_elements(over: object) -> None:
    """Raise ConfigurationError for what is no collection of elements. A text is none: as the result of a step it is
    refused as well."""
    if not isinstance(over, Iterable) or isinstance(over, (str, bytes, bytearray, Mapping)):
        raise ConfigurationError(
            f"`each` takes a list, or a step that returns one, not {over!r}: it adds a task for each element"
        )


def new_step(core: Steppable, args: Sequence[object], kwargs: Mapping[str, object], options: StepOptions) -> Step:
    """Make a step, in the flow whose `with` block or step runs here, if one does. Raises as `StepNode.give`,
    ConfigurationError."""
    node = StepNode(core.callee(), _checked(core.options), options)
    node.give(args, kwargs)
    if options.chunk_size is not None:
        raise ConfigurationError("chunk_size= is for `flow.each(...)`, whose items go into chunks: a step is one call")
    return _placed(node, current_graph.get() or graph_of_task(core.herd))


def new_each(
    graph: Graph, call: StepCall[..., R], over: Step | Flat, args: Sequence[object], kwargs: Mapping[str, object]
) -> Step:
    """Make a step that makes one task for each element of the result of `over`. Raises as `new_step`."""
    is_flat = isinstance(over, Flat)
    if isinstance(over, Flat):
        over = over.step
    options, core = call.step_options, core_of(call)
    if options.mark:
        raise ConfigurationError("on= and optional= do not hold for `each`: give them to steps that use its results")
    parent = core_of(over)
    parent.check_complete()
    parent.is_used = True
    node = StepNode(core.callee(), _checked(core.options), options)
    node.is_each = True
    node.over = parent
    node.is_flat = is_flat
    running = apply_overrides(core.registered, core.options.overrides)
    is_limited = running.timeout is not None or running.soft_timeout is not None
    # A limit is of a whole chunk, so no chunks are made where one is set and nothing is said of chunks.
    node.chunk_size = 1 if options.chunk_size is None and is_limited else options.chunk_size
    node.give_item(args, kwargs)
    return _placed(node, graph)


def _placed(node: StepNode, graph: Graph | None) -> Step:
    if node.step_options.mark and not node.parents and not node.lacks_first:
        raise ConfigurationError(
            f"{node!r} waits for no step, so on= and optional= say nothing: give it a step, as an argument or as after="
        )
    if graph is not None:
        graph.add(node)
    return Step(node)


_UNFIT: Final[tuple[tuple[str, Callable[[TaskOptions], object], str], ...]] = (
    ("key", lambda options: options.key, "a flow may have a key, herd.flow(key=...)"),
    ("delay", lambda options: options.delay, "a step starts when its parents are done"),
    ("at", lambda options: options.due_at, "a step starts when its parents are done"),
    (
        "expires",
        lambda options: options.expires or options.expires_at,
        "a flow has a time limit, herd.flow(timeout=...)",
    ),
)


def _checked(options: TaskOptions) -> TaskOptions:
    """Return the options of a task. Raises ConfigurationError for those that a step cannot have."""
    refuse_children(options, "a flow, whose end ends its steps,")
    for name, get, why in _UNFIT:
        if get(options) is not None:
            raise ConfigurationError(
                f"{name}= does not hold for a step: {why}; task.options({name}=None) takes it away"
            )
    return options
