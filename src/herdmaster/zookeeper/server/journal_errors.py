"""The errors of a data directory."""

from __future__ import annotations

from pathlib import Path

from herdmaster.zookeeper.errors import ZooKeeperError


class JournalError(ZooKeeperError):
    """The data directory cannot be used."""


class DataDirectoryInUse(JournalError):
    """Another server uses the data directory."""


class JournalCorrupt(JournalError):
    """A file is damaged in a way that no crash during a write explains. `path` and `offset` say where."""

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(
            f"the journal is damaged: {path} at offset {offset}: {reason}. Nothing was changed. "
            f"Restore the data directory from a backup, or start with an empty one."
        )
        self.path = path
        self.offset = offset


class JournalWriteFailed(JournalError):
    """The disk did not take what had to be written. The server stops, and nothing unwritten was acknowledged."""
