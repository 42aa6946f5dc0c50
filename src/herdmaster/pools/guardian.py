"""Kills the processes that a worker's tasks have started when the worker itself is killed.

The parent-death signal reaches the processes of the pool, but not those that their tasks have started. So a shell is
told the process groups. It waits for the end of its input, and then kills the groups.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable
from typing import Final

from herdmaster import forks
from herdmaster.pools.signals import held_back

_SCRIPT: Final = (
    "trap '' TERM INT HUP; "
    'groups=; while read -r line; do groups=$line; done; for group in $groups; do kill -s KILL -- "-$group"; done'
)


class Guardian:
    """The shell that kills process groups when this process ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, groups: Iterable[int]) -> None:
        """Tell the shell which groups to kill, in place of those of the call before."""
        line = " ".join(map(str, groups)).encode() + b"\n"
        if self._process is not None and self._process.poll() is not None:
            self.close()  # it was killed
        if self._process is None:
            # In a new session: a signal to the worker's process group must not end the shell.
            with held_back():
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",  # so that no directory is kept busy
                    start_new_session=True,
                )
            forks.add_fd(_input_of(self._process))  # in a forked child it would hide the end
        with contextlib.suppress(BrokenPipeError):  # the shell has just died; the next call starts another
            os.write(_input_of(self._process), line)

    def close(self) -> None:
        """End the shell. It kills the groups that it was told last, if they still exist."""
        process, self._process = self._process, None
        if process is not None:
            forks.discard_fd(_input_of(process))
            assert process.stdin is not None
            process.stdin.close()  # nothing is buffered, so this writes nothing
            process.wait()


def _input_of(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    return process.stdin.fileno()
