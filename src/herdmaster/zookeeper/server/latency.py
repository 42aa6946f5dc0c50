"""The latency of answers, in whole milliseconds: from the arrival of a request until its answer left, as Apache's
server counts. It includes waiting for earlier requests of the connection, and for the disk."""

from __future__ import annotations


class Latency:
    """The latency of one connection, or of all."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.least = 0
        self.most = 0
        self.newest = 0

    def add(self, milliseconds: int, count: int) -> None:
        """Count so many answers that took so long."""
        self.least = min(self.least, milliseconds) if self.count else milliseconds
        self.most = max(self.most, milliseconds)
        self.newest = milliseconds
        self.total += milliseconds * count
        self.count += count

    @property
    def mean(self) -> float:
        """The mean, to four places; 0 before the first answer."""
        return round(self.total / self.count, 4) if self.count else 0.0
