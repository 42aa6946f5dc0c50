"""Runs one task's code and turns whatever comes of it into the bytes of its outcome. Called on the pool's threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from herdmaster.core.failure import ErrorInfo, error_info
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome, encode_result
from herdmaster.core.payload import Call, decode_arguments
from herdmaster.errors import HerdError, ResultTooLarge, UnknownCall

Function = Callable[..., object]
RawHandler = Callable[[str, bytes], None]
"""Called with the task's name and bytes; what it raises makes the task fail."""


class Delivered(msgspec.Struct, gc=False):
    """A task as it was read from the inbox. `call` is None for a raw task. `czxid` tells this delivery from another
    one of the same name."""

    name: str
    payload: bytes
    czxid: int
    call: Call | None


class Executor:
    """What a worker can run: the functions that its app registered, and a handler for raw tasks.

    `may_start` is asked last, on the thread: after a stall of the process the session may be over, and then nothing is
    started any more.
    """

    def __init__(
        self,
        functions: Mapping[str, Function],
        raw_handler: RawHandler,
        worker: str,
        may_start: Callable[[], bool],
        unix_ms: Callable[[], int],
    ) -> None:
        self._functions = functions
        self._raw_handler = raw_handler
        self._worker = worker
        self._may_start = may_start
        self._unix_ms = unix_ms

    def run(self, task: Delivered) -> bytes | None:
        """The outcome's bytes; None if the task was not started. Never raises, whatever the task's code does."""
        if not self._may_start():
            return None
        started = self._unix_ms()
        try:
            result = self._call(task)
        except BaseException as error:  # noqa: BLE001 - also SystemExit: a task does not end its worker
            return self.failed(task, error, started)
        outcome = Outcome(OutcomeState.DONE, result, None, self._worker, started, self._unix_ms(), _attempt(task))
        try:
            return encode_outcome(task.name, outcome)
        except ResultTooLarge as error:
            return self.failed(task, error, started)

    def _call(self, task: Delivered) -> msgspec.Raw | None:
        call = task.call
        if call is None:
            self._raw_handler(task.name, task.payload)
            return None
        function = self._functions.get(call.call)
        if function is None:
            known = ", ".join(sorted(self._functions)[:10]) or "none"
            raise UnknownCall(
                f"{call.call} is not registered with {self._worker}; its app has: {known}. "
                "Deploy the app that defines it to this worker, or submit to another queue"
            )
        args, kwargs = decode_arguments(call)
        return encode_result(function(*args, **kwargs))

    def failed(self, task: Delivered, error: BaseException, started: int | None = None) -> bytes:
        """The outcome of a task that ended with an exception, or that could not even be started."""
        info = error_info(error)
        if isinstance(error, HerdError):  # ours, so where it was raised tells nobody anything
            info = ErrorInfo(type(error).__name__, info.message, "", None)
        ended = self._unix_ms()
        return encode_outcome(
            task.name,
            Outcome(OutcomeState.FAILED, None, info, self._worker, started, ended, _attempt(task)),
        )


def _attempt(task: Delivered) -> int:
    return task.call.attempt if task.call is not None else 1
