"""A child process that lives no longer than the process that started it, even if that one is killed.

The command runs in a shell that starts a watcher and then becomes the command. The watcher reads a pipe from the
parent and kills the command when the pipe ends without a word. This is independent of threads (unlike
PR_SET_PDEATHSIG, which fires when the starting thread ends), runs no Python between fork and exec, and leaves no moment
in which the command runs unwatched. The child is in a session of its own, so Ctrl-C in a terminal reaches the parent
alone, and the watcher survives a kill of the parent's whole process group.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["WatchedChild"]

# $1: the folder to remove when the parent is gone ("" for none); the rest is the command that this shell becomes, so
# `$$` is the command's process id. The pipe is copied because a shell gives /dev/null as input to a background job.
# The command may still be creating files while it dies, hence the second removal.
_WATCHED = """
exec 3<&0 </dev/null
(
    word=
    read -r word <&3
    if [ "$word" != released ]; then
        kill -KILL $$
        if [ -n "$1" ]; then rm -rf -- "$1"; sleep 1; rm -rf -- "$1"; fi
    fi
) &
shift
exec "$@" 3<&-
"""


class WatchedChild:
    """A running command with its output in the file `log`. `remove` is a folder to delete if the parent dies first."""

    def __init__(self, command: Sequence[str], *, log: Path, remove: Path | None = None) -> None:
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _WATCHED, "sh", str(remove or ""), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """True until the process has ended; a paused one runs."""
        return self._process.poll() is None

    def terminate(self, timeout: float) -> None:
        """End it with SIGTERM, after `timeout` seconds with SIGKILL. Idempotent."""
        self._process.send_signal(signal.SIGTERM)
        self._process.send_signal(signal.SIGCONT)  # a paused process takes no SIGTERM
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """End it with SIGKILL and release the watcher. Idempotent."""
        self._process.kill()
        self._process.wait()
        pipe = self._process.stdin
        if pipe is not None and not pipe.closed:
            with suppress(BrokenPipeError):
                pipe.write(b"released\n")
                pipe.flush()
            with suppress(BrokenPipeError):
                pipe.close()

    def pause(self) -> None:
        """Stop it with SIGSTOP and return when it has stopped."""
        self._process.send_signal(signal.SIGSTOP)
        # WNOWAIT leaves the exit status to `subprocess`, should the process end first.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Continue the process after `pause`."""
        self._process.send_signal(signal.SIGCONT)
