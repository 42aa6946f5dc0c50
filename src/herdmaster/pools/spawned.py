"""The parent's side of one process of a pool: starts it, exchanges messages, reads its output, kills it, reaps it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Final

import msgspec

from herdmaster import forks
from herdmaster.pools.messages import FrameReader, FromChild, Note, Question, ToChild, encode_frame, from_child_decoder
from herdmaster.pools.output import Output, Turns
from herdmaster.pools.signals import held_back

_RECEIVE_BYTES: Final = 256 * 1024


class Spawned:
    """One process.

    - `heard` is called with each message, and at last with None if bytes came that are no message. A message other than
      a note or a question is handed on after what was printed before it.
    - `printed` is called with the name of a stream and a line.
    - `gone` is called once, with the exit code as in `Popen`: when the process has ended, its group has been killed,
      and everything else has been handed on.

    `is_unread`: whether it ended with something in its socket that it had not read.
    """

    def __init__(
        self,
        heard: Callable[[Spawned, FromChild | None], None],
        printed: Callable[[Spawned, str, str], None],
        gone: Callable[[Spawned, int], None],
        turns: Turns,
        folder: str,
    ) -> None:
        """Start the process in `folder`. Raises OSError if the system has no room for another one."""
        self._heard = heard
        self._printed = printed
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()  # calls in the loop belong to the role that made it
        self._frames = FrameReader()
        self._messages: deque[FromChild | None] = deque()  # those that wait for what was printed before them
        self._is_garbled = False
        self._is_measured = False  # what was printed before the first of them, or before its end
        self._has_exited = False
        self._unsent = bytearray()
        self._exit_fd: int | None = None
        self._is_open = True
        self.is_unread = False
        self.tasks = 0
        self._channel, theirs = socket.socketpair()
        with theirs, held_back():
            try:
                self.process = _spawn(theirs, folder)
            except BaseException:
                self._channel.close()
                raise
        self.pid = self.process.pid
        self._channel.setblocking(False)
        forks.add_fd(self._channel.fileno())
        self._outputs: list[Output] = []
        self._listen(turns)

    def _listen(self, turns: Turns) -> None:
        self._loop.add_reader(self._channel, self._read_messages)
        for name, stream in (("stdout", self.process.stdout), ("stderr", self.process.stderr)):
            assert stream is not None
            self._outputs.append(Output(stream, turns, partial(self._printed, self, name), self._hand_on))
        if hasattr(os, "pidfd_open"):
            self._exit_fd = os.pidfd_open(self.pid)
            self._loop.add_reader(self._exit_fd, self._reap)
        else:
            threading.Thread(target=self._wait_exit, daemon=True).start()

    def send(self, message: ToChild) -> None:
        """Send a message. Does nothing if the process has ended, which `gone` reports."""
        frame = encode_frame(message)
        if self._unsent:
            self._unsent += frame
            return
        sent = self._send_some(frame)
        if sent < len(frame):
            self._unsent += frame[sent:]
            self._loop.add_writer(self._channel, self._send_rest)

    def catch_up(self) -> None:
        """Hand on now the messages that have come so far."""
        if self._is_open:
            self._read_messages()
            while self._messages and self._is_open:
                for output in self._outputs:
                    output.read_owed()
                self._hand_on()

    def retire(self) -> None:
        """Let the process end after what it runs."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Kill the group of the process. Its number is not reused, because the process has not been reaped."""
        if self._is_open:
            kill_group(self.pid)

    def abandon(self) -> subprocess.Popen[bytes]:
        """Stop watching the process, and return it to the caller, who has to wait for it. An idle one now ends by
        itself."""
        self._close()
        return self.process

    # --- the socket ----------------------------------------------------------------------------------------------

    def _send_some(self, data: bytes | bytearray) -> int:
        try:
            return self._channel.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.is_unread = True
            return len(data)

    def _send_rest(self) -> None:
        del self._unsent[: self._send_some(self._unsent)]
        if not self._unsent:
            self._loop.remove_writer(self._channel)

    def _read_messages(self) -> None:
        while self._is_open and not self._is_garbled:
            try:
                data = self._channel.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self.is_unread = True  # ECONNRESET: the other end was closed before it was empty
                data = b""
            if not data:
                self._loop.remove_reader(self._channel)
                return
            try:
                self._messages.extend(map(from_child_decoder.decode, self._frames.feed(data)))
            except (ValueError, msgspec.MsgspecError):
                self._messages.append(None)
                self._is_garbled = True
                self._loop.remove_reader(self._channel)
            self._hand_on()
            if len(data) < _RECEIVE_BYTES:
                return

    def _hand_on(self) -> None:
        """Hand on messages, and at last the end, as far as everything that was printed before has been handed on."""
        while self._is_open and (self._messages or self._has_exited):
            is_said = bool(self._messages) and isinstance(self._messages[0], (Note, Question))
            if not is_said and not self._is_caught_up():
                return
            if self._messages:
                self._heard(self, self._messages.popleft())
            else:
                self._end()

    def _is_caught_up(self) -> bool:
        if not self._is_measured:
            self._is_measured = True
            for output in self._outputs:
                output.measure()
        if any(output.is_owing for output in self._outputs):
            return False  # they call again
        self._is_measured = False
        for output in self._outputs:
            output.flush()
        return True

    # --- its end -------------------------------------------------------------------------------------------------

    def _wait_exit(self) -> None:
        self.process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._reap, context=self._context)

    def _reap(self) -> None:
        if not self._is_open:
            return
        if self._exit_fd is not None:
            self._loop.remove_reader(self._exit_fd)
        kill_group(self.pid)  # what it has started, and not ended; it is still a zombie, so the group is its own
        self._read_messages()
        self._has_exited = True
        self._hand_on()

    def _end(self) -> None:
        code = self.process.wait()
        self._close()
        self._gone(self, code)

    def _close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        forks.discard_fd(self._channel.fileno())
        self._channel.close()
        for output in self._outputs:
            output.close()
        if self._exit_fd is not None:
            self._loop.remove_reader(self._exit_fd)
            os.close(self._exit_fd)


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: of a group with nothing but zombies
        os.killpg(group, signal.SIGKILL)


def _spawn(channel: socket.socket, folder: str) -> subprocess.Popen[bytes]:
    # -P: what lies in the working directory must not stand in for modules of the standard library.
    # In the thread of the loop: Linux sends the parent-death signal when the thread ends that has started a process.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "herdmaster.pools.process_child", str(channel.fileno()), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=folder,
        pass_fds=(channel.fileno(),),
        start_new_session=True,
    )
