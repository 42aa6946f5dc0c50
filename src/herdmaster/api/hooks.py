"""Hooks as an app registers them: several of a kind, called in the order in which they were registered."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from herdmaster.errors import ConfigurationError
from herdmaster.running.hooks import AfterTask, BeforeTask, Hooks, OnError, OnWorker

B = TypeVar("B", bound=BeforeTask)
A = TypeVar("A", bound=AfterTask)
E = TypeVar("E", bound=OnError)
W = TypeVar("W", bound=OnWorker)

_TAKES: Final = {
    "before_task": ("task",),
    "after_task": ("task", "result"),
    "on_error": ("task", "error"),
    "on_worker_start": (),
    "on_worker_stop": (),
}


class HookRegistry:
    """What `Herd` has of hooks. Each method is a decorator and gives the function back. All raise ConfigurationError
    for what cannot be called as the hook will be."""

    def __init__(self) -> None:
        self._before: list[BeforeTask] = []
        self._after: list[AfterTask] = []
        self._errors: list[OnError] = []
        self._starts: list[OnWorker] = []
        self._stops: list[OnWorker] = []

    def before_task(self, hook: B) -> B:
        """`hook(task)` is called before each task's code, where that runs: on its thread, in the loop of coroutines, in
        its process. `task` is what `current_task()` gives. What a hook around tasks raises is logged, and changes
        nothing of the task's fate."""
        self._before.append(_check("before_task", hook))
        return hook

    def after_task(self, hook: A) -> A:
        """`hook(task, result)` is called after code that returned."""
        self._after.append(_check("after_task", hook))
        return hook

    def on_error(self, hook: E) -> E:
        """`hook(task, error)` is called once for each attempt that failed, also where it will be tried again, with the
        error that the submitter is given: where the code raised, else (a time limit, a process that died, wrong
        arguments, an unknown call, a task that expired at the worker) on a thread of the worker."""
        self._errors.append(_check("on_error", hook))
        return hook

    def on_worker_start(self, hook: W) -> W:
        """`hook()` is called once, before a worker has a session; what it raises keeps the worker from starting. It may
        be an `async def`, may block, and may submit tasks."""
        self._starts.append(_check("on_worker_start", hook))
        return hook

    def on_worker_stop(self, hook: W) -> W:
        """`hook()` is called once, when a worker has ended that had started; it may be an `async def`. The process
        waits 10 s for it."""
        self._stops.append(_check("on_worker_stop", hook))
        return hook

    @property
    def hooks(self) -> Hooks:
        """What a worker of this app calls."""
        return Hooks(
            before_task=partial(_call_each, tuple(self._before)) if self._before else None,
            after_task=partial(_call_each, tuple(self._after)) if self._after else None,
            on_error=partial(_call_each, tuple(self._errors)) if self._errors else None,
            on_worker_start=tuple(self._starts),
            on_worker_stop=tuple(self._stops),
        )


def _check(name: str, hook: Callable[..., object]) -> Callable[..., object]:
    takes = _TAKES[name]
    shown = f"hook({', '.join(takes)})"
    if not callable(hook):
        raise ConfigurationError(f"{name} takes a function that is called as {shown}, not {hook!r}")
    if takes and inspect.iscoroutinefunction(hook):
        raise ConfigurationError(f"the {name} hook is called as {shown} and not awaited: make it a plain `def`")
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # a function of C that says nothing of itself
        return hook
    try:
        signature.bind(*takes)
    except TypeError as error:
        raise ConfigurationError(f"the {name} hook is called as {shown}, which it does not take: {error}") from None
    return hook


def _call_each(hooks: tuple[Callable[..., object], ...], *args: object) -> None:
    """All of them, whatever the others raise; then that is raised."""
    errors: list[BaseException] = []
    for hook in hooks:
        try:
            hook(*args)
        except BaseException as error:  # noqa: BLE001 - it is raised below
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup("several hooks failed", errors)
