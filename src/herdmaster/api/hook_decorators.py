"""The decorators of a Herd that register hooks."""

from __future__ import annotations

from typing import TypeVar

from herdmaster.api.herd_core import HerdCore
from herdmaster.running.hooks import AfterTask, BeforeTask, OnError, OnWorker

A = TypeVar("A", bound=AfterTask)
B = TypeVar("B", bound=BeforeTask)
E = TypeVar("E", bound=OnError)
W = TypeVar("W", bound=OnWorker)


class HookDecorators:
    """The part of `Herd` that registers hooks. A worker of the app calls them around each task's code."""

    _core: HerdCore

    def before_task(self, hook: B) -> B:
        """Decorator: call `hook(task)` before each task's code, where that runs: on its thread, in the loop of the
        coroutines, in its process. `task` is what `current_task()` returns. What a hook around tasks raises is logged
        and does not affect the task.

        Raises ConfigurationError for a hook that cannot be called so; the other decorators of hooks do, too.
        """
        self._core.registry.hook_lists.add("before_task", hook)
        return hook

    def after_task(self, hook: A) -> A:
        """Decorator: call `hook(task, result)` after a task's code has returned."""
        self._core.registry.hook_lists.add("after_task", hook)
        return hook

    def on_error(self, hook: E) -> E:
        """Decorator: call `hook(task, error)` once for each attempt that failed, even if another attempt follows, with
        the error that the submitter gets. It is called where the code raised; for other failures (a time limit, a
        process that died, wrong arguments, an unknown call, a task that expired at the worker) on a thread of the
        worker."""
        self._core.registry.hook_lists.add("on_error", hook)
        return hook

    def on_final_failure(self, hook: E) -> E:
        """Decorator: call `hook(task, error)` once for each task that ended otherwise than done, with the error that
        the submitter gets: on a thread of the worker that ended it, or, for what a master ends, in a process beside the
        master if that was started as `herd master --app`."""
        self._core.registry.hook_lists.add("on_final_failure", hook)
        return hook

    def on_worker_start(self, hook: W) -> W:
        """Decorator: call `hook()` once, before a worker has a session. If it raises, the worker does not start. It may
        be an `async def`, may block, and may submit tasks."""
        self._core.registry.hook_lists.add("on_worker_start", hook)
        return hook

    def on_worker_stop(self, hook: W) -> W:
        """Decorator: call `hook()` once, when a worker that had started has ended. It may be an `async def`. The
        process waits 10 s for it."""
        self._core.registry.hook_lists.add("on_worker_stop", hook)
        return hook
