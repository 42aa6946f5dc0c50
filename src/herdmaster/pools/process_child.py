"""One process of a pool: reads requests from its socket one at a time, and sends the replies of its handler.

Started as `python -m herdmaster.pools.process_child FD PARENT`, with the number of its socket and its parent's process
id. It leads a new process group, in which everything that its tasks start can be killed. It ends when its socket is
closed, and on Linux when its parent ends, even in the middle of a task. It ignores SIGTERM, SIGINT and SIGHUP, which
are meant for its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import resource
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Final, cast

from herdmaster import forks
from herdmaster.errors import SoftTimeLimitExceeded
from herdmaster.pools import child_logs, messages, signals
from herdmaster.pools.folder import Folder
from herdmaster.pools.streams import Streams

Handler = Callable[[bytes, Callable[[bytes], None], Callable[[bytes], bytes]], bytes]
"""(request, send_note, ask) -> reply. `ask` returns the answer, or raises messages.NoAnswer."""

_PR_SET_PDEATHSIG: Final = 1
_RECEIVE_BYTES: Final = 256 * 1024
_LOOK_SECONDS: Final = 0.05
"""How late a soft limit may be while the code waits for an answer, and the end of a request for a thread that does."""

MEMORY_LIMIT: Final = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
"""The limit that meets what Python code allocates, and little else. On Linux that is RLIMIT_DATA: the heap and private
writable mappings, where obmalloc, malloc and numpy take all their memory from. RLIMIT_AS would count address space that
is only reserved, of which threads and numerical libraries take gigabytes, and RLIMIT_RSS does nothing. Elsewhere
RLIMIT_DATA leaves out mappings."""


class Alarm:
    """Raises SoftTimeLimitExceeded in the main thread, where Python runs signal handlers: at most once in a request,
    never outside one, and never while a frame is being written."""

    def __init__(self) -> None:
        self._seconds: float | None = None  # of the code that it may interrupt
        self._holds = 0
        self._is_late = False
        signal.signal(signal.SIGALRM, self._ring)
        forks.add_handler(signal.SIGALRM)

    def set(self, seconds: float) -> None:
        self._seconds = seconds
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))

    def clear(self) -> None:
        """Stop the alarm. This may still raise; nothing is raised afterwards."""
        if self._seconds is not None:
            self._seconds = None
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def hold(self) -> None:
        """Raise nothing until as many calls of `release`."""
        self._holds += 1

    def release(self) -> None:
        """Raise what was held back, if nothing else holds it."""
        self._holds -= 1
        if not self._holds:
            self.raise_late()

    def raise_late(self) -> None:
        """Raise what was held back, and go on to hold."""
        if self._is_late:
            self._is_late = False
            self._raise()

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        if self._holds:
            self._is_late = True
        else:
            self._raise()

    def _raise(self) -> None:
        if self._seconds is not None:
            seconds, self._seconds = self._seconds, None
            raise SoftTimeLimitExceeded(f"the task ran past its soft time limit of {seconds:g} s")


class Memory:
    """The memory limit of this process. Only the soft limit is set, so it can be lifted again."""

    def __init__(self) -> None:
        self._first, self._hard = resource.getrlimit(MEMORY_LIMIT)
        self._present: int | None = None

    def limit(self, size: int | None) -> None:
        if size == self._present:
            return
        wanted = self._first if size is None else size
        if self._hard != resource.RLIM_INFINITY and size is not None:
            wanted = min(size, self._hard)
        resource.setrlimit(MEMORY_LIMIT, (wanted, self._hard))
        self._present = size


class Child:
    """The process's side of the socket `channel`."""

    def __init__(self, channel: socket.socket) -> None:
        self._generation = forks.generation
        self._channel = channel
        forks.add_fd(channel.fileno())
        self._reader = messages.FrameReader()
        self._frames: list[bytes] = []
        self._lock = threading.Lock()
        self._asking = threading.Lock()  # held by the thread that reads the socket while the code runs
        self._present = 0  # the number of the request whose code runs
        self._questions = 0
        self._alarm = Alarm()
        self._memory = Memory()
        self._flush_c = ctypes.CDLL(None).fflush

    def run(self) -> int:
        """Answer requests until the socket is closed. Return the exit code. Raises what the socket raises when the
        parent is gone."""
        start = self._receive()
        if not isinstance(start, messages.Start):
            return 0
        sys.path[:] = start.path
        child_logs.install(start.log_level, start.log_mark)
        try:
            with forks.UserCode():
                handler = load_handler(start.handler, start.argument)
        except BaseException as error:  # noqa: BLE001 - a module may also exit while it is imported
            traceback.print_exc()
            self._flush()
            self._send(messages.CannotStart(f"{start.handler} cannot be made: {_describe(error)}"))
            return 1
        child_logs.restore(start.log_level)
        folder, streams = Folder(), Streams()
        self._send(messages.Ready())
        while isinstance(request := self._receive(), messages.Request):
            answer = self._answer(handler, request)
            self._flush()
            streams.restore()
            with contextlib.suppress(OSError):  # it is gone
                os.chdir(folder.path)  # undo a change of directory by the task
            self._send(answer)
        return 0

    def _answer(self, handler: Handler, request: messages.Request) -> messages.FromChild:
        number = request.number
        replies: list[bytes] = []

        def send_note(data: bytes) -> None:
            self._send(messages.Note(number, data))

        def ask(data: bytes) -> bytes:
            return self._ask(number, data)

        try:
            try:
                self._present = number
                self._memory.limit(request.memory)
                if request.soft is not None:
                    self._alarm.set(request.soft)
                with forks.UserCode():
                    replies.append(handler(request.data, send_note, ask))
            finally:
                try:
                    self._alarm.clear()
                finally:
                    self._present = 0
                    with self._asking:
                        pass  # from here on no other thread reads the socket
        except SoftTimeLimitExceeded:
            return messages.Reply(number, replies[0]) if replies else messages.SoftlyTimedOut(number)
        except MemoryError:
            self._memory.limit(None)  # the answer needs some
            return messages.HandlerFailed(number, "it ran out of memory")
        except BaseException as error:  # noqa: BLE001 - the parent is told; the process is replaced
            return messages.HandlerFailed(number, f"its handler raised {_describe(error)}")
        return messages.Reply(number, replies[0])

    def _flush(self) -> None:
        """Write out what a task printed, so that it is in the pipe before the reply is in the socket."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the task's code may have put anything there
                stream.flush()
        self._flush_c(None)

    def _receive(self) -> messages.ToChild | None:
        """Return the next message that is no answer, or None at the end. An answer here came too late."""
        while True:
            while not self._frames:
                data = self._channel.recv(_RECEIVE_BYTES)
                if not data:
                    return None
                self._frames = self._reader.feed(data)
            message = messages.to_child_decoder.decode(self._frames.pop(0))
            if not isinstance(message, messages.Answer):
                return message

    def _ask(self, number: int, data: bytes) -> bytes:
        """Send a question of the request's code, and return its answer. On any thread of the task."""
        if forks.generation != self._generation:
            raise messages.NoAnswer("a forked process cannot ask")
        is_main = threading.current_thread() is threading.main_thread()

        def look() -> None:
            if is_main:
                self._alarm.raise_late()
            if self._present != number:
                raise messages.NoAnswer("the task has ended")

        if is_main:
            self._alarm.hold()  # what was received must not be lost
        try:
            while not self._asking.acquire(timeout=_LOOK_SECONDS):
                look()
            try:
                look()
                return self._exchange(number, data, look)
            finally:
                self._asking.release()
        finally:
            if is_main:
                self._alarm.release()

    def _exchange(self, number: int, data: bytes, look: Callable[[], None]) -> bytes:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        self._questions += 1
        question = self._questions
        self._send(messages.Question(number, question, data))
        while True:
            while self._frames:
                message = messages.to_child_decoder.decode(self._frames.pop(0))
                if isinstance(message, messages.Answer) and (message.number, message.question) == (number, question):
                    return message.data
                # Any other is the answer to a question that was given up.
            if not poll.poll(_LOOK_SECONDS * 1000):
                look()
                continue
            received = self._channel.recv(_RECEIVE_BYTES)
            if not received:
                raise messages.NoAnswer("the worker is gone")
            self._frames = self._reader.feed(received)

    def _send(self, message: messages.FromChild) -> None:
        if forks.generation != self._generation:
            return  # a forked child must send nothing
        frame = messages.encode_frame(message)
        is_main = threading.current_thread() is threading.main_thread()
        with self._lock:  # any thread of a task may send notes
            if is_main:
                self._alarm.hold()
            try:
                self._channel.sendall(frame)
            finally:
                if is_main:
                    self._alarm.release()


def load_handler(name: str, argument: str) -> Handler:
    """Make a handler. `name` is `module:attribute` of a factory. Raises what the import and the factory raise."""
    module, _, attribute = name.partition(":")
    factory = cast("Callable[[str], Handler]", getattr(importlib.import_module(module), attribute))
    return factory(argument)


def die_with(parent: int) -> None:
    """Let Linux kill this process when its parent ends. On other systems its next read tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it ended before this could be asked for


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - its __str__ is the user's
        return type(error).__name__


def main() -> int:
    signals.outlast()
    die_with(int(sys.argv[2]))
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # By lines, so that a process that dies takes as little as possible with it.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    with contextlib.suppress(ConnectionError):  # the parent is gone
        return Child(channel).run()
    return 1


if __name__ == "__main__":
    sys.exit(main())
