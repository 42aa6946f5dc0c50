"""The functions of an app that are called around each task, and at the start and the stop of a worker."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from herdmaster import forks
from herdmaster.running.current import CurrentTask, Running

BeforeTask = Callable[[CurrentTask], object]
AfterTask = Callable[[CurrentTask, object], object]
OnError = Callable[[CurrentTask, BaseException], object]
OnFinalFailure = Callable[[CurrentTask, BaseException], object]
OnWorker = Callable[[], object]

_log = logging.getLogger("herdmaster.task")


class Hooks(msgspec.Struct, frozen=True):
    """The hooks of an app.

    `before_task(task)`, then `after_task(task, result)` or `on_error(task, exception)` are called where the task's code
    runs: on its thread, in the loop of the coroutines, or in its process. The result of a chunk is the list of its
    items' results, with an exception for each item that failed. If an attempt is not ended by its code, `on_error` is
    called in the worker (see `error_calls`). `on_final_failure(task, exception)` is called after the end was committed,
    for a task that ended otherwise than done: in the worker that ended it, or in a process beside the master that did
    (see `cli.final_failures`). What these hooks raise is logged and does not affect the task.

    Each of `on_worker_start` is called once, before the worker has a session; if one raises, the worker does not start.
    Each of `on_worker_stop` is called after the last session (see `worker_hooks`). The processes of a pool call the
    task hooks of the app that they import, and never these two.
    """

    before_task: BeforeTask | None = None
    after_task: AfterTask | None = None
    on_error: OnError | None = None
    on_final_failure: OnFinalFailure | None = None
    on_worker_start: tuple[OnWorker, ...] = ()
    on_worker_stop: tuple[OnWorker, ...] = ()


def call_before(hooks: Hooks, running: Running) -> None:
    if hooks.before_task is not None:
        try:
            with forks.UserCode():
                hooks.before_task(CurrentTask(running))
        except BaseException:  # noqa: BLE001 - an error of a hook never fails the task
            _log.exception("%s: before_task failed", running.name)


def call_after(hooks: Hooks, running: Running, result: object) -> None:
    if hooks.after_task is not None:
        try:
            with forks.UserCode():
                hooks.after_task(CurrentTask(running), result)
        except BaseException:  # noqa: BLE001 - as above
            _log.exception("%s: after_task failed", running.name)


def call_on_final_failure(hooks: Hooks, running: Running, error: BaseException) -> None:
    if hooks.on_final_failure is not None:
        try:
            with forks.UserCode():
                hooks.on_final_failure(CurrentTask(running), error)
        except BaseException:  # noqa: BLE001 - as above
            _log.exception("%s: on_final_failure failed", running.name)


def call_on_error(hooks: Hooks, running: Running, error: BaseException) -> None:
    if hooks.on_error is not None:
        try:
            with forks.UserCode():
                hooks.on_error(CurrentTask(running), error)
        except BaseException:  # noqa: BLE001 - as above
            _log.exception("%s: on_error failed", running.name)
