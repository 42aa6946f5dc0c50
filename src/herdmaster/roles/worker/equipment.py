"""Makes the pools of a worker's slots."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextvars import Context
from operator import attrgetter

import msgspec

from herdmaster.core.options import PoolKind
from herdmaster.core.printable import escaped
from herdmaster.errors import ConfigurationError
from herdmaster.pools.coroutines import AsyncPool
from herdmaster.pools.folder import Folder
from herdmaster.pools.limits import Limits
from herdmaster.pools.outlets import have_room
from herdmaster.pools.processes import ProcessPool
from herdmaster.pools.protocol import Pool
from herdmaster.roles.shared.system import PoolFactory
from herdmaster.roles.worker.held import Held
from herdmaster.running import child
from herdmaster.running.delivery import Delivered
from herdmaster.running.execution import Executor, PoolResult
from herdmaster.running.log_fields import log_about

Deliver = Callable[[Sequence[tuple[Held, PoolResult]]], None]

_limits_of: Callable[[Held], Limits] = attrgetter("task.way.limits")
_log = logging.getLogger("herdmaster.task")


class Equipment:
    """What the pools of one session are made of.

    `setting` names the app that processes import. Each task runs in a copy of `context`; in a process, in a copy of the
    context that the import of the app has left. Processes are started in `folder`.
    """

    def __init__(
        self,
        executor: Executor,
        make_threads: PoolFactory,
        setting: child.Setting,
        context: Context,
        folder: Folder,
    ) -> None:
        self._executor = executor
        self._make_threads = make_threads
        self._setting = setting
        self._context = context
        self._folder = folder

    def check(self, task: Delivered) -> None:
        """Raise ConfigurationError for a task that no pool of this worker can run."""
        if task.options.pool is PoolKind.PROCESS and self._setting.app is None:
            assert task.callee is not None
            if not task.callee.is_imported:
                raise ConfigurationError(
                    f"{task.callee.call} runs in a process, which has to import its app: start the worker as "
                    "`herd worker --app MODULE`, or give Worker app='module:attribute'"
                )

    def make(self, kind: PoolKind, slots: int, deliver: Deliver) -> Pool[Held]:
        """Make a pool that calls `deliver` with the tasks that have ended."""
        executor, context = self._executor, self._context

        def run(held: Held) -> PoolResult:
            return context.copy().run(executor.run, held.task)

        async def run_async(held: Held) -> PoolResult:
            return await executor.run_async(held.task)

        def make_request(held: Held) -> tuple[bytes, Limits] | None:
            return executor.make_request(held.task)

        match kind:
            case PoolKind.THREAD:
                return self._make_threads(slots, run, deliver, limits_of=_limits_of, given_up=_give_up)
            case PoolKind.ASYNCIO:
                return AsyncPool(slots, run_async, deliver, limits_of=_limits_of, given_up=_give_up, context=context)
        return ProcessPool(
            slots,
            make_request,
            deliver,
            handler=child.HANDLER,
            handler_argument=msgspec.json.encode(self._setting).decode(),
            note=_note,
            ask=_ask,
            on_output=_log_output,
            has_room=have_room,
            folder=self._folder,
        )


def _give_up(held: Held) -> None:
    held.task.give_up()


def _note(held: Held, data: bytes) -> None:
    child.apply_note(held.task, data)


def _ask(held: Held, data: bytes, answer: Callable[[bytes], None]) -> None:
    child.answer_question(held.task, data, answer)


def _log_output(held: Held | None, _stream: str, line: str) -> None:
    line = escaped(line)  # here, because the app's formatters and readers of JSON may show it as it is
    if held is None:
        _log.info("a process of the pool: %s", line)
    else:
        task = held.task
        log_about(_log, logging.INFO, f"{task.name}: {line}", (task.name, task.call_name, task.queue, task.attempt))
