"""Limits the lines of one kind in a log, and sums up those that are left out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from herdmaster.core.printable import printable

MOST_LINES: Final = 50
"""Lines of one kind in a second; further ones are counted."""
MAX_SHOWN: Final = 300
"""Characters of a name and of an error in a line."""
_WINDOW_SECONDS: Final = 1.0
_MAX_NAMES: Final = 10
"""Names that a summary has."""
_MAX_COUNTED: Final = 1000


class LineLimit:
    """A limit for lines of one kind. Once it is reached, lines are counted by name until `take`."""

    __slots__ = ("_count", "_counts", "_rest", "_since", "_window")

    def __init__(self, rest: str) -> None:
        """`rest` is the name under which lines are counted when there are too many names."""
        self._rest = rest
        self._window = float("-inf")  # when it began
        self._count = 0
        self._counts: dict[str, int] = {}
        self._since = 0.0

    def admits(self, name: str, now: float) -> bool:
        """Return whether a line may be logged now, in seconds of any clock. If not, it is counted."""
        if self.counted(name):
            return False
        if now - self._window >= _WINDOW_SECONDS:
            self._window, self._count = now, 0
        if self._count < MOST_LINES:
            self._count += 1
            return True
        self._since = now
        self._counts[name] = 1
        return False

    def counted(self, name: str) -> bool:
        """Count a line and return True if lines are counted now. Cheap, because most lines of a busy role are."""
        counts = self._counts
        if not counts:
            return False
        if name not in counts and len(counts) >= _MAX_COUNTED:
            name = self._rest
        counts[name] = counts.get(name, 0) + 1
        return True

    def take(self, now: float) -> tuple[dict[str, int], float]:
        """Return how many lines of each name were left out, and in how many seconds, and begin to count anew."""
        counts, self._counts = self._counts, {}
        return counts, now - self._since


class LineKind:
    """Lines of one level that share a limit. `what` is what a summary says of them, such as `tasks done`."""

    def __init__(self, level: int, what: str, *, nameless: str = "without a name", rest: str = "others") -> None:
        self.level = level
        self.what = what
        self.nameless = nameless
        self.limit = LineLimit(rest)


class LimitedLog:
    """Asks the limits of several kinds of lines, and logs a summary a second after one was reached. All methods are
    called in the event loop."""

    def __init__(self, log: logging.Logger, kinds: Sequence[LineKind]) -> None:
        self._log = log
        self._kinds = kinds
        self._timer: asyncio.TimerHandle | None = None

    def admits(self, kind: LineKind, name: str) -> bool:
        """Return whether a line may be logged. If not, it is counted."""
        if not self._log.isEnabledFor(kind.level):
            return False
        loop = asyncio.get_running_loop()
        if kind.limit.admits(name, loop.time()):
            return True
        if self._timer is None:
            self._timer = loop.call_later(_WINDOW_SECONDS, self._sum_up)
        return False

    def close(self) -> None:
        """Log what is counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._sum_up()

    def _sum_up(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for kind in self._kinds:
            counts, seconds = kind.limit.take(now)
            if counts:
                self._log.log(kind.level, "%s", summary(kind, counts, seconds))


def summary(kind: LineKind, counts: dict[str, int], seconds: float) -> str:
    """Return one line for those that were left out, the most frequent names first."""
    by_number = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    shown = [f"{printable(name, MAX_SHOWN) or kind.nameless} {count}" for name, count in by_number[:_MAX_NAMES]]
    rest = sum(count for _, count in by_number[_MAX_NAMES:])
    if rest:
        shown.append(f"others {rest}")
    return f"{sum(counts.values())} more {kind.what} in {seconds:.1f} s: {', '.join(shown)}"
