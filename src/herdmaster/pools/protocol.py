"""What all pools have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from herdmaster.pools.job import Job

T = TypeVar("T")


class Pool(Protocol[T]):
    """Where task code runs: `slots` pieces of it at a time. Made and used in one event loop.

    Each item whose job a slot has claimed is delivered exactly once, with what its code came to or with one of
    `limits.Ended`; after `close` perhaps not at all. Items are told apart by identity.
    """

    slots: int

    def submit(self, items: Iterable[T], /) -> list[Job[T]]:
        """One job each, in order. Until a slot claims it a job can be withdrawn with its `claim`."""
        ...

    @property
    def running(self) -> list[T]:
        """The items whose code runs now; a snapshot."""
        ...

    def stop(self, item: T, /) -> bool:
        """Ends an item whose job can no longer be withdrawn; it is delivered as `Stopped`, not before this returns.

        False if it does not run: what it ended with is delivered, or was, or a slot has not claimed its job.
        """
        ...

    def close(self) -> None:
        """Runs nothing more; unclaimed jobs are claimed. Does not wait. Only once."""
        ...
