"""The parent's side of one process of a pool: starts it, talks to it, reads what it prints, kills it, reaps it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import IO, Final

from herdmaster.pools.messages import FrameReader, FromChild, Note, ToChild, encode_frame, from_child_decoder
from herdmaster.pools.output import LineReader

_RECEIVE_BYTES: Final = 256 * 1024
_PRINTED_BYTES: Final = 64 * 1024
_MOST_READS: Final = 16
"""Of what it prints, at one go: what a task started may print without end, and the others want their turn."""


class Spawned:
    """`heard` gets its messages, `printed` the name of the stream and a line, `gone` the exit code as `Popen` has it,
    once, when the process has ended, its group has been killed, and everything before has been handed on.

    `is_unread`: it ended with something in its socket that it had not taken out.
    """

    def __init__(
        self,
        heard: Callable[[Spawned, FromChild], None],
        printed: Callable[[Spawned, str, str], None],
        gone: Callable[[Spawned, int], None],
    ) -> None:
        """Starts it. Raises OSError if the system has no room for another."""
        self._heard = heard
        self._printed = printed
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()  # what it does in the loop is its maker's
        self._frames = FrameReader()
        self._unsent = bytearray()
        self._exit_fd: int | None = None
        self._is_open = True
        self.is_unread = False
        self.tasks = 0
        self._channel, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = _spawn(theirs)
            except BaseException:
                self._channel.close()
                raise
        self.pid = self.process.pid
        self._channel.setblocking(False)
        self._outputs: dict[str, tuple[IO[bytes], LineReader]] = {}
        self._listen()

    def _listen(self) -> None:
        self._loop.add_reader(self._channel, self._read_messages)
        for name, stream in (("stdout", self.process.stdout), ("stderr", self.process.stderr)):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._outputs[name] = (stream, LineReader())
            self._loop.add_reader(stream, self._read_output, name, 1)
        if hasattr(os, "pidfd_open"):
            self._exit_fd = os.pidfd_open(self.pid)
            self._loop.add_reader(self._exit_fd, self._reap)
        else:
            threading.Thread(target=self._wait_exit, daemon=True).start()

    def send(self, message: ToChild) -> None:
        """A process that is no more will be reported as gone."""
        frame = encode_frame(message)
        if self._unsent:
            self._unsent += frame
            return
        sent = self._send_some(frame)
        if sent < len(frame):
            self._unsent += frame[sent:]
            self._loop.add_writer(self._channel, self._send_rest)

    def catch_up(self) -> None:
        """Hands on now what it has said so far."""
        if self._is_open:
            self._read_messages()

    def retire(self) -> None:
        """Lets it end after what it runs."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Kills its group, which cannot be another's: it has not been reaped."""
        if self._is_open:
            kill_group(self.pid)

    def abandon(self) -> subprocess.Popen[bytes]:
        """Takes no more notice of it. An idle one ends by itself now; who calls this has to wait for it."""
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
        while self._is_open:
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
            for frame in self._frames.feed(data):
                message = from_child_decoder.decode(frame)
                if not isinstance(message, Note):
                    self._read_outputs()  # it was printed before this was sent
                    self._flush_outputs()
                self._heard(self, message)
            if len(data) < _RECEIVE_BYTES:
                return

    # --- what it prints ------------------------------------------------------------------------------------------

    def _read_outputs(self) -> None:
        for name in self._outputs:
            self._read_output(name, _MOST_READS)

    def _read_output(self, name: str, most: int) -> None:
        stream, lines = self._outputs[name]
        for _ in range(most):
            try:
                data = os.read(stream.fileno(), _PRINTED_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._loop.remove_reader(stream)
                return
            for line in lines.feed(data):
                self._printed(self, name, line)

    def _flush_outputs(self) -> None:
        for name, (_, lines) in self._outputs.items():
            for line in lines.flush():
                self._printed(self, name, line)

    # --- its end -------------------------------------------------------------------------------------------------

    def _wait_exit(self) -> None:
        self.process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._reap, context=self._context)

    def _reap(self) -> None:
        if not self._is_open:
            return
        self._read_messages()
        self._read_outputs()
        self._flush_outputs()
        kill_group(self.pid)  # what it has started, and not ended
        code = self.process.wait()
        self._close()
        self._gone(self, code)

    def _close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()
        for stream, _ in self._outputs.values():
            self._loop.remove_reader(stream)
            stream.close()
        if self._exit_fd is not None:
            self._loop.remove_reader(self._exit_fd)
            os.close(self._exit_fd)


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: of a group with nothing but zombies
        os.killpg(group, signal.SIGKILL)


def _spawn(channel: socket.socket) -> subprocess.Popen[bytes]:
    # -P: what lies in the working directory must not stand in for modules of the standard library.
    # In the thread of the loop: Linux sends the parent-death signal when the thread ends that has started a process.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "herdmaster.pools.process_child", str(channel.fileno()), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=(channel.fileno(),),
        start_new_session=True,
    )
