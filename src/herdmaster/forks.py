"""What a forked child leaves to its parent, and how a child that returns into our code ends.

A fork copies one thread, and with it every descriptor and every signal handler. A child that kept them would hold
sessions and pipes of its parent open, would write to the wake-up descriptor of the parent's event loop when it gets a
signal, and would ignore the SIGTERM with which `multiprocessing.Pool` ends its processes. So a child begins with the
default handlers, without a wake-up descriptor, and with /dev/null in place of the descriptors registered here.

A task's code may fork and let the child return from the task, or leave it by an exception. The child would then go on
as a second server of the same queue, pipe or event loop. Whatever runs a user's code therefore looks at `generation`
before and afterwards, and ends the child as the interpreter ends a program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Final, NoReturn

_FLUSH_SECONDS: Final = 5
"""How long the end of a child may take: a lock may be held for good by a thread that did not come along."""

generation = 0
"""How many forks there are between the process that imported this and this one. To read it costs a tenth of what asking
for the process id does, and it is read around every task."""

_LOOP_MODULES: Final = ("asyncio", "uvloop")

_callbacks: list[Callable[[], None]] = []
_fds: dict[int, tuple[int, int]] = {}
_handlers: dict[int, object] = {}
_loops: dict[int, asyncio.AbstractEventLoop] = {}
_runs_tasks = False
_masks = threading.local()


def add_callback(callback: Callable[[], None]) -> None:
    """`callback` is called in every forked child, for the life of this process."""
    _callbacks.append(callback)


def add_fd(fd: int) -> None:
    """Children have /dev/null in its place. A number that was reused without `discard_fd` is noticed and left alone."""
    _fds[fd] = _identity(fd)


def discard_fd(fd: int) -> None:
    """Before it is closed."""
    _fds.pop(fd, None)


def add_handler(number: int) -> None:
    """Children have the default in place of the handler that the signal has now."""
    _handlers[number] = signal.getsignal(number)


def add_task_host() -> None:
    """Tasks run in this process: its event loops leave no signal handlers to children."""
    global _runs_tasks  # noqa: PLW0603 - true of the whole process
    _runs_tasks = True


def add_loop(loop: asyncio.AbstractEventLoop) -> None:
    """`loop` runs coroutines of users' in this thread. A child that is forked in one and goes on to await ends there:
    it would run the other coroutines a second time, and read what wakes the parent's loop."""
    _loops[threading.get_ident()] = loop


def discard_loop() -> None:
    """That of this thread."""
    _loops.pop(threading.get_ident(), None)


class UserCode:
    """A block that runs a user's code, and at whose end a forked child ends."""

    __slots__ = ("_generation",)

    def __enter__(self) -> None:
        self._generation = generation

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if generation != self._generation:
            end(error)


def end(error: BaseException | None = None) -> NoReturn:
    """Ends a child that has come back from a user's code, with the exit code and the output of the interpreter for
    `error`."""
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_FLUSH_SECONDS)
        code = _exit_code(error)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the user's code may have put anything there
                stream.flush()
    finally:
        os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    return 1


# --- around a fork -----------------------------------------------------------------------------------------------


def _before_fork() -> None:
    """A signal that reached the child before its handlers are reset would be lost there, and told to the parent."""
    if _runs_tasks or _handlers:
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _after_fork() -> None:
    before = getattr(_masks, "before", None)
    if before is not None:
        _masks.before = None
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_child() -> None:
    global generation  # noqa: PLW0603 - of the whole process
    generation += 1
    try:
        _reset_signals()
    finally:
        _after_fork()
    _replace_fds()
    _stop_loop()
    for callback in tuple(_callbacks):
        callback()


def _reset_signals() -> None:
    if _runs_tasks:
        signal.set_wakeup_fd(-1)
        for each in signal.valid_signals():
            if _is_of_a_loop(signal.getsignal(each)):
                _reset(each)
    for number, handler in _handlers.items():
        if signal.getsignal(number) is handler:
            _reset(number)
    _handlers.clear()


def _reset(number: int) -> None:
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _is_of_a_loop(handler: object) -> bool:
    function = getattr(handler, "func", handler)  # asyncio.Runner's is a partial
    owner = type(getattr(function, "__self__", None))
    modules = (getattr(function, "__module__", None) or "", owner.__module__)
    return any(module.partition(".")[0] in _LOOP_MODULES for module in modules)


def _replace_fds() -> None:
    fds = {fd: identity for fd, identity in _fds.items() if _is_still(fd, identity)}
    _fds.clear()
    if not fds:
        return
    null = os.open(os.devnull, os.O_RDWR)
    for fd in fds:
        os.dup2(null, fd, inheritable=False)  # not closed: the objects that own the number will do that once more
    os.close(null)


def _is_still(fd: int, identity: tuple[int, int]) -> bool:
    try:
        return _identity(fd) == identity
    except OSError:
        return False


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _stop_loop() -> None:
    loop = _loops.get(threading.get_ident())
    _loops.clear()
    if loop is None or loop.is_closed():
        return
    ready = getattr(loop, "_ready", None)  # asyncio's own loops: what waits there is the parent's to run
    if ready is not None:
        ready.clear()
    loop.call_soon(end, RuntimeError("a process that a coroutine has forked cannot await in the loop of its parent"))


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_child)
