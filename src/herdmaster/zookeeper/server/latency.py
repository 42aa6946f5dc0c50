"""How long answers took: from a request's arrival until its answer left, in whole milliseconds, as Apache's server
counts. What it waited for others of its connection, and for the disk, is part of that.
"""

from __future__ import annotations


class Latency:
    """Of one connection, or of all."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.least = 0
        self.most = 0
        self.newest = 0

    def add(self, milliseconds: int, count: int) -> None:
        """So many answers took so long."""
        self.least = min(self.least, milliseconds) if self.count else milliseconds
        self.most = max(self.most, milliseconds)
        self.newest = milliseconds
        self.total += milliseconds * count
        self.count += count

    @property
    def mean(self) -> float:
        """To four places; 0 before the first answer."""
        return round(self.total / self.count, 4) if self.count else 0.0
