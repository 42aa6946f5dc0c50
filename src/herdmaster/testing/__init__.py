"""Helpers for tests of Herdmaster and of programs that use it.

`task_context` is exported here. Servers and roles are in modules that are imported by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from herdmaster.testing.context import TaskContext, task_context

__all__ = ["TaskContext", "task_context"]


def __getattr__(name: str) -> object:
    # Late: the pytest plugin is below this package, and imports nothing before a fixture is used.
    if name in __all__:
        from herdmaster.testing import context

        return getattr(context, name)
    raise AttributeError(f"module 'herdmaster.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
