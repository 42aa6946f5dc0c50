"""Check that masters sweep nothing before its time, by the servers' clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from herdmaster.core import layout
from herdmaster.core.flows import FlowState, decode_header
from herdmaster.errors import BadPayload
from herdmaster.simulation.checks.effects import Actor, Effects
from herdmaster.simulation.checks.history import Node, TaskHistory
from herdmaster.simulation.plan.plan import Ages, Kind

_STATUS: Final = f"{layout.STATUS}/"
_DEAD: Final = f"{layout.DEAD}/"
_CLIENTS: Final = f"{layout.CLIENTS}/"
_WAITERS: Final = f"{layout.WAITERS}/"
_HISTORY: Final = f"{layout.HISTORY}/"
_FLOWS: Final = f"{layout.FLOWS}/"
_ROUNDING_MS: Final = 1


class SweepCheck:
    """Checks each transaction before the ledger applies it. `outcome_ttl` is for outcomes that name no time to live."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        history: Callable[[str], TaskHistory],
        ages: Ages,
        outcome_ttl: float,
        report: Callable[[str], None],
    ) -> None:
        self.swept: set[str] = set()
        """Tasks whose outcomes a master has swept."""
        self.lost_journals: set[str] = set()
        """Processes of clients whose journals a master has swept."""
        self._nodes = nodes
        self._history = history
        self._ages = ages
        self._outcome_ttl = outcome_ttl
        self._report = report
        self._signs: dict[str, int] = {}  # of life, by journal: when the last was seen
        self._writers: dict[str, str] = {}  # by journal: the process that made it
        self._removals: set[str] = set()  # flows that operators and clients are removing, or began to

    def check(self, effects: Effects, actor: Actor, deleted: Mapping[str, Node]) -> None:
        """Check a transaction. `deleted` has the znodes that it deletes."""
        self._note_signs(effects, actor)
        self._note_removals(effects, actor)
        if actor.kind is not Kind.MASTER or actor.reference or effects.closed is not None:
            return
        for path, node in deleted.items():
            if path.startswith(_STATUS) and not effects.created:
                task = path.removeprefix(_STATUS).partition("/")[0]
                # A znode that a reference worker made below a status goes with that.
                self._check_outcome(task, self._nodes.get(layout.status_path(task), node), effects.time)
            elif path.startswith(_DEAD):
                self._check_age(path, effects.time - node.created_ms, self._ages.dead)
            elif path.startswith(_WAITERS) and path.count("/") == _WAITERS.count("/"):
                self._check_age(path, effects.time - node.changed_ms, self._ages.linger)
            elif path.startswith(_CLIENTS) and path.count("/") == _CLIENTS.count("/"):
                self._check_age(path, effects.time - self._signs.get(path, node.changed_ms), self._ages.journal)
                self.lost_journals.add(self._writers.get(path, ""))
            elif path.startswith(_HISTORY) and effects.created and not _is_merged(path):
                self._check_age(path, effects.time - node.created_ms, self._ages.merged_after)

    def _check_age(self, path: str, age_ms: int, kept: float) -> None:
        if age_ms + _ROUNDING_MS < kept * 1000:
            self._report(f"swept {path} after {age_ms} ms, and it is kept for {kept} s")

    def _check_outcome(self, task: str, node: Node, now_ms: int) -> None:
        self.swept.add(task)
        if task in self._removals:
            return  # a master completes a removal that another began and was cut off from
        mark = self._nodes.get(layout.waiters_path(task))
        if mark is not None and mark.data == layout.WAS_READ:
            kept, since = min(self._ages.linger, self._outcome_ttl), mark.changed_ms
            if now_ms - since + _ROUNDING_MS >= kept * 1000:
                return
        outcome = self._history(task).outcome
        own = None if outcome is None else outcome.ttl
        self._check_age(layout.status_path(task), now_ms - node.created_ms, self._outcome_ttl if own is None else own)

    def _note_removals(self, effects: Effects, actor: Actor) -> None:
        for path, _, _ in effects.created:
            if _is_flow(path):
                self._removals.discard(layout.name_of(path))  # a flow with a key comes again
        for path, data in effects.written.items():
            if _is_flow(path) and actor.kind is not Kind.MASTER and _is_removed(data):
                self._removals.add(layout.name_of(path))

    def _note_signs(self, effects: Effects, actor: Actor) -> None:
        """Note when a journal was last announced or written."""
        for path in (*effects.changed, *(path for path, _, _ in effects.created)):
            if path.startswith(_CLIENTS):
                journal = "/".join(path.split("/")[:3])
                self._signs[journal] = effects.time
                self._writers.setdefault(journal, actor.name)
        if effects.closed is not None:
            for path, node in self._nodes.items():
                if node.session_id == effects.closed and path.startswith(_CLIENTS):
                    self._signs["/".join(path.split("/")[:3])] = effects.time
        for path in effects.deleted:
            if path.startswith(_CLIENTS) and path.count("/") > _CLIENTS.count("/"):
                self._signs["/".join(path.split("/")[:3])] = effects.time


def _is_flow(path: str) -> bool:
    return path.startswith(_FLOWS) and path.count("/") == _FLOWS.count("/")


def _is_removed(data: bytes) -> bool:
    try:
        return decode_header(data).state is FlowState.REMOVED
    except BadPayload:
        return False


def _is_merged(path: str) -> bool:
    return layout.name_of(path).partition("-")[2].startswith("m")
