"""Kills what the tasks of a worker have started when the worker itself is killed.

The parent-death signal reaches a process of the pool, and not the processes that its tasks have started. A shell that
does nothing but wait for the end of its input knows the process groups, and kills them when the input ends.
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
    """Each `watch` replaces the groups of the one before."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, groups: Iterable[int]) -> None:
        line = " ".join(map(str, groups)).encode() + b"\n"
        if self._process is not None and self._process.poll() is not None:
            self.close()  # it was killed
        if self._process is None:
            # In a session of its own: what ends the worker by its group must not end this.
            with held_back():
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",  # it keeps no directory busy
                    start_new_session=True,
                )
            forks.add_fd(_input_of(self._process))  # a child that kept it would keep this from noticing the end
        with contextlib.suppress(BrokenPipeError):  # it died just now; the next call starts another
            os.write(_input_of(self._process), line)

    def close(self) -> None:
        """Ends the shell; the groups that it knew last are killed, if they still exist."""
        process, self._process = self._process, None
        if process is not None:
            forks.discard_fd(_input_of(process))
            with contextlib.suppress(BrokenPipeError):
                assert process.stdin is not None
                process.stdin.close()
            process.wait()


def _input_of(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    return process.stdin.fileno()
