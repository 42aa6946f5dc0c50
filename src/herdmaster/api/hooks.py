"""The hooks that an app registers: several of each kind, called in the order of their registration."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Final

from herdmaster.errors import ConfigurationError
from herdmaster.running.hooks import Hooks

_TAKES: Final = {
    "before_task": ("task",),
    "after_task": ("task", "result"),
    "on_error": ("task", "error"),
    "on_final_failure": ("task", "error"),
    "on_worker_start": (),
    "on_worker_stop": (),
}
"""Each kind of hook, with the arguments that it is called with."""


class HookLists:
    """The hooks of one app."""

    def __init__(self) -> None:
        self._hooks: dict[str, list[Callable[..., object]]] = {kind: [] for kind in _TAKES}

    def add(self, kind: str, hook: Callable[..., object]) -> None:
        """Raises ConfigurationError for a hook that cannot be called as its kind is."""
        _check(kind, hook)
        self._hooks[kind].append(hook)

    def hooks(self) -> Hooks:
        """Return what a worker calls now."""
        return Hooks(
            before_task=self._joined("before_task"),
            after_task=self._joined("after_task"),
            on_error=self._joined("on_error"),
            on_final_failure=self._joined("on_final_failure"),
            on_worker_start=tuple(self._hooks["on_worker_start"]),
            on_worker_stop=tuple(self._hooks["on_worker_stop"]),
        )

    def _joined(self, kind: str) -> Callable[..., object] | None:
        hooks = tuple(self._hooks[kind])
        return partial(_call_each, hooks) if hooks else None


def _check(name: str, hook: Callable[..., object]) -> None:
    takes = _TAKES[name]
    shown = f"hook({', '.join(takes)})"
    if not callable(hook):
        raise ConfigurationError(f"{name} takes a function that is called as {shown}, not {hook!r}")
    if takes and inspect.iscoroutinefunction(hook):
        raise ConfigurationError(f"the {name} hook is called as {shown} and not awaited: make it a plain `def`")
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # a function in C without a signature
        return
    try:
        signature.bind(*takes)
    except TypeError as error:
        raise ConfigurationError(f"the {name} hook is called as {shown}, which it does not take: {error}") from None


def _call_each(hooks: tuple[Callable[..., object], ...], *args: object) -> None:
    """Call every hook, then raise what they raised."""
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
