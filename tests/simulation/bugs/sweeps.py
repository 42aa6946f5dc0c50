"""Planted bugs of what masters sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from herdmaster.core.history import merge_batches
from herdmaster.roles.primary import history_sweep
from herdmaster.roles.primary.history_sweep import HistorySweep
from herdmaster.roles.primary.key_sweep import KeySweep
from herdmaster.roles.primary.outcome_sweep import OutcomeSweep
from herdmaster.roles.primary.sweeper import Sweeper
from herdmaster.roles.primary.waiter_sweep import WaiterSweep


def outcomes_swept_early() -> Any:
    """An outcome is swept a second before its time."""
    sweep = OutcomeSweep.sweep

    async def early(self: Any, now_ms: int) -> None:
        await sweep(self, now_ms + 1000)

    return patch.object(OutcomeSweep, "sweep", early)


def journals_swept_at_once() -> Any:
    """A journal is swept when its client has no session at the moment."""
    return patch.object(Sweeper, "_first_seen", lambda _self, _name, stat, _now: (stat.version + stat.cversion, 0))


def read_outcomes_swept_at_once() -> Any:
    """An outcome that was read and left to others is swept in the next round."""
    sweep = WaiterSweep.sweep

    async def early(self: Any, now_ms: int) -> None:
        self._linger_ms = 0.0
        await sweep(self, now_ms)

    return patch.object(WaiterSweep, "sweep", early)


def merging_forgets_a_batch() -> Any:
    """Of the batches that are merged, the last is left out."""
    merge = merge_batches

    def forget(batches: Any) -> Any:
        found = list(batches)
        return merge(found[:-1] or found)

    return patch.object(history_sweep, "merge_batches", forget)


def young_batches_are_merged() -> Any:
    """Batches are merged at any age, while their writers may still write them again."""
    sweep = HistorySweep.sweep

    async def early(self: Any, now_ms: int) -> None:
        self._merged_after_ms = 0
        await sweep(self, now_ms)

    return patch.object(HistorySweep, "sweep", early)


def keys_of_unseen_tasks_swept() -> Any:
    """A key is swept without a look for its task."""

    async def all_of_them(_self: Any, keys: Any) -> Any:
        return keys

    return patch.object(KeySweep, "_find_stale", all_of_them)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug
    for bug in (
        outcomes_swept_early,
        journals_swept_at_once,
        read_outcomes_swept_at_once,
        merging_forgets_a_batch,
        young_batches_are_merged,
        keys_of_unseen_tasks_swept,
    )
}
