"""The servers' clock, as far as the mtime of the last znode that this session wrote shows it.

All roles decide by this one clock what is due and how old something is, so a machine whose own clock is wrong, or
jumps, does no harm. Between two readings the monotonic clock of this side goes on.
"""

from __future__ import annotations

from collections.abc import Callable


class ServerTime:
    """An estimate of the servers' time. `clock` gives monotonic seconds; `unix_ms` this machine's time, which stands in
    until the first reading."""

    def __init__(self, clock: Callable[[], float], unix_ms: Callable[[], int]) -> None:
        self._clock = clock
        self._offset_ms = unix_ms() - clock() * 1000  # one number: threads read it while the loop writes it
        self.is_known = False
        self.is_used = False
        """Whether the time was asked for since the last reading."""

    def synchronize(self, written_ms: int) -> None:
        """Take a reading: `written_ms` is the mtime of a znode that was written just now. It is never later than the
        true time."""
        self._offset_ms = written_ms - self._clock() * 1000
        self.is_known = True
        self.is_used = False

    def now_ms(self) -> int:
        """Return unix milliseconds."""
        self.is_used = True
        return int(self._clock() * 1000 + self._offset_ms)
