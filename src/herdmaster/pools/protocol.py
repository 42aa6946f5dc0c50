"""The interface of a pool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from herdmaster.pools.job import Job

T = TypeVar("T")


class Pool(Protocol[T]):
    """Runs the code of items, at most `slots` of them at a time. Made and used in one event loop.

    Each item whose job a slot has claimed is delivered exactly once, with the result of its code or with one of
    `limits.Ended`; after `close` perhaps not at all. Items are compared by identity.
    """

    slots: int

    def submit(self, items: Iterable[T], /) -> list[Job[T]]:
        """Queue items. Return a job for each, in order. Calling `claim` withdraws a job that no slot has claimed."""
        ...

    @property
    def running(self) -> list[T]:
        """The items whose code runs now; a snapshot."""
        ...

    def stop(self, item: T, /) -> bool:
        """End an item whose job can no longer be withdrawn. It is delivered as `Stopped`, after this has returned.

        Return False if it does not run: its end is delivered, or was, or no slot has claimed its job.
        """
        ...

    def close(self) -> None:
        """Run nothing more, and claim the unclaimed jobs. Does not wait. To be called once."""
        ...
