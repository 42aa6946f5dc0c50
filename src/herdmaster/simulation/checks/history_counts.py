"""Check what workers and masters count in `/history` against what they have committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from herdmaster.core import layout
from herdmaster.core.history import Batch, EndState, decode_batch
from herdmaster.core.outcome import OutcomeState
from herdmaster.simulation.checks.effects import Actor, Effects, inbox_of, task_of
from herdmaster.simulation.checks.flow_tree import is_result_of_step
from herdmaster.simulation.checks.history import Node, TaskHistory
from herdmaster.simulation.plan.plan import Kind

_HISTORY: Final = f"{layout.HISTORY}/"
_STATUS: Final = f"{layout.STATUS}/"


class HistoryCountCheck:
    """Counts for each process of a worker the tasks that it has done and those that its batches say are done.

    A batch may be lost with its process, and never counts twice.
    """

    def __init__(self, history: Callable[[str], TaskHistory], report: Callable[[str], None]) -> None:
        self._history = history
        self._report = report
        self._done: Counter[str] = Counter()
        self._silent: Counter[str] = Counter()  # ended without an outcome, which may have been done
        self._counted: Counter[str] = Counter()
        self._connections: Counter[str] = Counter()
        self._seen: set[str] = set()  # batches that were written
        self._merged: set[str] = set()

    def attached(self, process: str) -> None:
        """Note that a process has attached one more connection to a session."""
        self._connections[process] += 1

    def check(self, effects: Effects, actor: Actor, deleted: Mapping[str, Node]) -> None:
        """Check a transaction that was applied. `deleted` are the znodes that it deleted."""
        before = {path: node for path, node in deleted.items() if path.startswith(_HISTORY)}
        created = {path: data for path, data, _ in effects.created if path.startswith(_HISTORY)}
        if before and created:
            self._merged.update(before)
            self._check_merged(before.values(), created.values())
            return
        if actor.kind is not Kind.WORKER or actor.reference:
            return
        self._done[actor.name] += sum(1 for path, _, _ in effects.created if self._is_done(path))
        self._silent[actor.name] += sum(1 for path in effects.deleted if self._is_silent(path))
        if not created:
            return
        for path in created.keys() & self._merged:
            self._report(f"writes {path} again, which is part of a merged batch")
        # A batch that was deleted may be written again: no reader sees it twice.
        self._counted[actor.name] += sum(_count_done(data) for path, data in created.items() if path not in self._seen)
        self._seen.update(created)
        most = self._done[actor.name] + self._silent[actor.name]
        if self._counted[actor.name] > most:
            self._report(f"counts {self._counted[actor.name]} tasks in the history as done, and has done {most}")

    def find_missing(self, process: str) -> str | None:
        """Return what a process that has been quiet for a while has not counted, or None. A process that lost a
        connection may not know what it has done."""
        done, counted = self._done[process], self._counted[process]
        if self._connections[process] == 1 and counted < done:
            return f"has done {done} tasks, and counts {counted} in the history"
        return None

    def _is_done(self, path: str) -> bool:
        if is_result_of_step(path):
            return True
        outcome = self._history(path.removeprefix(_STATUS)).outcome if path.startswith(_STATUS) else None
        return outcome is not None and outcome.state is OutcomeState.DONE

    def _is_silent(self, path: str) -> bool:
        return inbox_of(path) is not None and self._history(task_of(path) or "").silent

    def _check_merged(self, before: Iterable[Node], after: Iterable[bytes]) -> None:
        were, are = (_totals(batches) for batches in ([node.data for node in before], after))
        if were != are:
            what = min(were - are or are - were)
            self._report(f"merged batches: {' '.join(what)} was {were[what]}, and is {are[what]}")


def _count_done(data: bytes) -> int:
    batch: Batch | None = decode_batch(data)
    return 0 if batch is None else sum(each.results.get(EndState.DONE, 0) for each in batch.counts)


def _totals(batches: Iterable[bytes]) -> Counter[tuple[str, ...]]:
    """Return the sums of all that batches count. Merging drops the records of failures, and counts them."""
    found: Counter[tuple[str, ...]] = Counter()
    for batch in filter(None, map(decode_batch, batches)):
        found[("unrecorded",)] += batch.unrecorded + len(batch.failures)
        for each in batch.counts:
            for result, number in each.results.items():
                found[each.call, each.queue, result.value] += number
            for name, times in (("waiting", each.waiting), ("running", each.running)):
                for bucket, number in times.buckets.items():
                    found[each.call, each.queue, name, str(bucket)] += number
    return +found
