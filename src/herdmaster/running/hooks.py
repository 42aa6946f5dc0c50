"""What a user may have done around each task, and around a worker's life."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from herdmaster import forks
from herdmaster.running.current import CurrentTask, Running

BeforeTask = Callable[[CurrentTask], object]
AfterTask = Callable[[CurrentTask, object], object]
OnError = Callable[[CurrentTask, BaseException], object]
OnWorker = Callable[[], object]

_log = logging.getLogger("herdmaster.task")


class Hooks(msgspec.Struct, frozen=True):
    """`before_task(task)`, then `after_task(task, result)` or `on_error(task, exception)` are called where the task's
    code runs: on its thread, in the loop of the coroutines, in its process. Of a chunk the result is the list of its
    items' results, with the exception where one failed. Where an attempt ends in another way than by its code,
    `on_error` is called in the worker (see `error_calls`). What they raise is logged, and changes nothing of the task's
    fate.

    Each of `on_worker_start` is called once, before the worker has a session: if one raises, the worker does not start.
    Each of `on_worker_stop` is called when it has ended (see `worker_hooks`). The processes of a pool call the hooks of
    the app that they import, and these two not at all.
    """

    before_task: BeforeTask | None = None
    after_task: AfterTask | None = None
    on_error: OnError | None = None
    on_worker_start: tuple[OnWorker, ...] = ()
    on_worker_stop: tuple[OnWorker, ...] = ()


def call_before(hooks: Hooks, running: Running) -> None:
    if hooks.before_task is not None:
        try:
            with forks.UserCode():
                hooks.before_task(CurrentTask(running))
        except BaseException:  # noqa: BLE001 - whatever it is, the task has nothing to do with it
            _log.exception("%s: before_task failed", running.name)


def call_after(hooks: Hooks, running: Running, result: object) -> None:
    if hooks.after_task is not None:
        try:
            with forks.UserCode():
                hooks.after_task(CurrentTask(running), result)
        except BaseException:  # noqa: BLE001 - as above
            _log.exception("%s: after_task failed", running.name)


def call_on_error(hooks: Hooks, running: Running, error: BaseException) -> None:
    if hooks.on_error is not None:
        try:
            with forks.UserCode():
                hooks.on_error(CurrentTask(running), error)
        except BaseException:  # noqa: BLE001 - as above
            _log.exception("%s: on_error failed", running.name)
