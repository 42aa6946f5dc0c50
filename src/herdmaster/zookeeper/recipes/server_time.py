"""The servers' clock, as the newest znode that this session wrote showed it.

What is due, and how old something is, is decided by one clock that all roles share, so that a machine whose own clock
is wrong, or jumps, does no harm. Between two readings this side's monotonic clock goes on.
"""

from __future__ import annotations

from collections.abc import Callable


class ServerTime:
    """`clock` gives seconds, monotonic; `unix_ms` this machine's time, which stands in until the first reading."""

    def __init__(self, clock: Callable[[], float], unix_ms: Callable[[], int]) -> None:
        self._clock = clock
        self._offset_ms = unix_ms() - clock() * 1000  # one number, because threads ask while the loop is told
        self.is_known = False
        self.is_used = False
        """Whether the time was asked for since the last reading."""

    def tell(self, written_ms: int) -> None:
        """`written_ms` is the mtime of a znode that was written just now. It is never later than the true time."""
        self._offset_ms = written_ms - self._clock() * 1000
        self.is_known = True
        self.is_used = False

    def now_ms(self) -> int:
        """Unix milliseconds."""
        self.is_used = True
        return int(self._clock() * 1000 + self._offset_ms)
