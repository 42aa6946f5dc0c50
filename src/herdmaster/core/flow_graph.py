"""What a primary knows of one running flow: the names in its folders, and what follows from them.

A step waits in `steps` as one of these entries:

| entry | the step starts when |
|---|---|
| `7` | no edge is left: all its parents are done |
| `7!` | each edge that is left is of a parent that is over, and there is one |
| `7?` | each edge that is left is of a parent that is over |
| `4:7` | `4`, its only parent, is done |

A step is over if it has failed or will never start: it waits for a step that is over, or it is a `!` step whose parents
are all done. In a stopped flow every step without a mark that still waits is over, too. What is over is found only in
flows that have marked steps: at once when something fails, and step by step from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from herdmaster.core.flow_scope import FAILED, FOLLOWER_SIGN, PARTS, RESULTS, RUNNING, STEPS

ON_FAILURE: Final = "!"
OPTIONAL: Final = "?"
_MARKS: Final = (ON_FAILURE, OPTIONAL)


def step_of(entry: str) -> str:
    """Return the id of the step of an entry."""
    return entry.rpartition(FOLLOWER_SIGN)[2].rstrip("!?")


def running_entry(data: bytes) -> str:
    """Return the entry that the data of `running/T` names. More may follow after a blank."""
    return data.partition(b" ")[0].decode("ascii", "replace")


def parent_of(entry: str) -> str | None:
    """Return the parent of a step that has exactly one and no edge; None for a step with edges."""
    return entry.partition(FOLLOWER_SIGN)[0] if FOLLOWER_SIGN in entry else None


def is_marked(entry: str) -> bool:
    return entry.endswith(_MARKS)


class FlowGraph:
    """The names in the folders of a running flow. `offer` is called for each entry that gets ready.

    Nothing is ready before all folders are known. Every change costs the same, however large the flow is.
    """

    def __init__(self, offer: Callable[[str], None]) -> None:
        self._offer = offer
        self._unknown = set(PARTS)  # folders that were not listed yet: parts, and entries with edges
        self._joins: dict[str, set[str]] = {}  # entries with edges: parents that are not done
        self._followers: dict[str, set[str]] = {}  # by parent: entries without edges
        self._marked = 0
        self._over: _Over | None = None  # None: nothing is over, or it is not known yet
        self._is_over_stale = False
        self.running: dict[str, None] = {}  # the oldest first
        self.results: set[str] = set()
        self.failed: set[str] = set()
        self.ready: dict[str, None] = {}
        self._stops = False

    @property
    def is_stopped(self) -> bool:
        """Whether no step starts any more but marked ones."""
        return self._stops and bool(self.failed)

    @property
    def is_known(self) -> bool:
        return not self._unknown

    def __contains__(self, entry: str) -> bool:
        parent = parent_of(entry)
        return entry in self._joins if parent is None else entry in self._followers.get(parent, ())

    @property
    def waiting(self) -> list[str]:
        """The entries of all steps that wait."""
        return [*self._joins, *(entry for entries in self._followers.values() for entry in entries)]

    @property
    def has_waiting(self) -> bool:
        return bool(self._joins or self._followers)

    def edges_of(self, entry: str) -> tuple[str, ...]:
        """Return the parents of an entry that are not done. All are over if the entry is ready."""
        return tuple(sorted(self._joins.get(entry, ())))

    def set_stops(self, stops: bool) -> None:
        """Say whether the flow stops at its first failure."""
        self._stops = stops
        self._is_over_stale = True

    def refresh(self) -> None:
        """Find what is over, if that has to be done from the beginning. Call it before `ready` is used."""
        if not self._is_over_stale or not self.is_known:
            return
        self._is_over_stale = False
        self._over = None
        if self._marked:
            self._over = self._find_over()
            self.ready = dict.fromkeys(entry for entry in self.ready if not is_marked(entry))
            for entry in [entry for entry in self._joins if is_marked(entry)]:
                self._judge(entry)
        for entry in self.ready:
            self._offer(entry)

    def find_stuck(self) -> list[str]:
        """Return the entries that wait although nothing they wait for has failed: no legal flow has any at its end."""
        waiting = self.waiting
        over = self._find_over().steps if waiting else ()
        return [entry for entry in waiting if step_of(entry) not in over and entry not in self.ready]

    # --- folders -----------------------------------------------------------------------------------------------------

    def add_part(self, part: str) -> None:
        """The folder was made, and is empty."""
        self._unknown.discard(part)
        if self.is_known:
            self._begin_anew()

    def remove_part(self, part: str) -> None:
        self.replace(part, ())
        self._unknown.add(part)

    def replace(self, part: str, names: Iterable[str]) -> None:
        """Replace what is in a folder by a listing. The edges of its entries are listed after it."""
        if part == STEPS:
            self._unknown.difference_update([each for each in self._unknown if each not in PARTS])
            self._joins, self._followers, self._marked = {}, {}, 0
            for name in names:
                if parent_of(name) is None:
                    self._unknown.add(name)
                self._enter(name)
        elif part == RUNNING:
            self.running = dict.fromkeys(names)
        elif part == RESULTS:
            self.results = set(names)
        elif part == FAILED:
            self.failed = set(names)
        self._unknown.discard(part)
        self._begin_anew()

    def replace_edges(self, entry: str, parents: Iterable[str]) -> None:
        if entry in self._joins:
            self._joins[entry] = set(parents)
            self._unknown.discard(entry)
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Judge all entries, if everything is known."""
        self.ready = {}
        self._over = None
        self._is_over_stale = True
        if self.is_known:
            for entry in self._joins:
                self._judge(entry)
            for parent, entries in self._followers.items():
                if parent in self.results:
                    for entry in sorted(entries):
                        self._set_ready(entry)

    # --- changes -----------------------------------------------------------------------------------------------------

    def add(self, part: str, name: str) -> None:
        if part == RUNNING:
            self.running[name] = None
        elif part == STEPS:
            self._enter(name)
            self._handle_entry(name)
        elif part == RESULTS:
            self.results.add(name)
            for entry in sorted(self._followers.get(name, ())):
                self._set_ready(entry)
        elif part == FAILED:
            self.failed.add(name)
            if (self._stops and len(self.failed) == 1) or (self._over is None and self._marked):
                self._is_over_stale = True
            elif self._over is not None:
                self._judge_all(self._over.add(name))

    def remove(self, part: str, name: str) -> None:
        if part == RUNNING:
            self.running.pop(name, None)
        elif part == STEPS:
            self._leave(name)
        elif part == RESULTS:
            self.results.discard(name)
        elif part == FAILED:
            self.failed.discard(name)
            self._is_over_stale |= self._stops or self._marked > 0

    def add_edge(self, entry: str, parent: str) -> None:
        edges = self._joins.get(entry)
        if edges is None or parent in edges:
            return
        edges.add(parent)
        if self._over is not None:
            self._is_over_stale |= step_of(entry) in self._over.steps
            self._judge_all(self._over.add_edge(entry, parent))
        self._judge(entry)

    def remove_edge(self, entry: str, parent: str) -> None:
        edges = self._joins.get(entry)
        if edges is None or parent not in edges:
            return
        edges.discard(parent)
        if self._over is not None:
            self._over.remove_edge(entry, parent)
        self._judge(entry)

    def _enter(self, entry: str) -> None:
        parent = parent_of(entry)
        if parent is not None:
            self._followers.setdefault(parent, set()).add(entry)
        elif entry not in self._joins:
            self._joins[entry] = set()
            self._marked += is_marked(entry)

    def _handle_entry(self, entry: str) -> None:
        """Judge a new entry. Its edges follow as events: until they have come, ZooKeeper refuses its start."""
        parent = parent_of(entry)
        self._is_over_stale |= self._over is None and is_marked(entry)
        if self._over is not None and (self._over.is_blocked(parent) or (self.is_stopped and not is_marked(entry))):
            self._judge_all(self._over.add(step_of(entry)))
        if parent is None:
            self._judge(entry)
        elif parent in self.results:
            self._set_ready(entry)

    def _leave(self, entry: str) -> None:
        parent = parent_of(entry)
        if parent is not None:
            entries = self._followers.get(parent, set())
            entries.discard(entry)
            if not entries:
                self._followers.pop(parent, None)
        elif self._joins.pop(entry, None) is not None:
            self._marked -= is_marked(entry)
            self._unknown.discard(entry)
        self.ready.pop(entry, None)
        if self._over is not None:
            self._is_over_stale |= step_of(entry) in self._over.steps  # it has started all the same

    # --- readiness ---------------------------------------------------------------------------------------------------

    def _judge_all(self, entries: Iterable[str]) -> None:
        for entry in sorted(entries):
            self._judge(entry)

    def _judge(self, entry: str) -> None:
        """Decide whether an entry with edges is ready."""
        edges = self._joins[entry]
        if not edges and entry.endswith(ON_FAILURE):
            self._is_over_stale |= self._over is None or step_of(entry) not in self._over.steps
        is_open = self._over is None or self._over.has_open(entry)
        if (not edges and not entry.endswith(ON_FAILURE)) or (edges and is_marked(entry) and not is_open):
            self._set_ready(entry)
        else:
            self.ready.pop(entry, None)

    def _set_ready(self, entry: str) -> None:
        if self.is_known and entry not in self.ready:
            self.ready[entry] = None
            self._offer(entry)

    def _find_over(self) -> _Over:
        over = _Over(self._joins, self._followers)
        for step in self.failed:
            over.add(step)
        for entry, edges in self._joins.items():
            if not edges and entry.endswith(ON_FAILURE):
                over.add(step_of(entry))
        if self.is_stopped:
            for entry in self.waiting:
                if not is_marked(entry):
                    over.add(step_of(entry))
        return over


class _Over:
    """The steps of a flow that are over, kept up to date. It reads the dicts of its graph, and changes neither."""

    def __init__(self, joins: dict[str, set[str]], followers: dict[str, set[str]]) -> None:
        self.steps: set[str] = set()
        self._followers = followers
        self._children: dict[str, set[str]] = {}  # by parent: the entries that have an edge of it
        self._open = dict.fromkeys(filter(is_marked, joins), 0)  # marked entries: edges of parents that are not over
        for entry, edges in joins.items():
            for parent in edges:
                self.add_edge(entry, parent)

    def is_blocked(self, parent: str | None) -> bool:
        return parent in self.steps

    def has_open(self, entry: str) -> bool:
        return self._open.get(entry, 0) > 0

    def add(self, step: str) -> list[str]:
        """A step is over. Return the marked entries that wait for it, or for what is blocked by it."""
        marked: list[str] = []
        found = [step]
        while found:
            step = found.pop()
            if step in self.steps:
                continue
            self.steps.add(step)
            for entry in self._children.get(step, ()):
                if is_marked(entry):
                    self._open[entry] -= 1
                    marked.append(entry)
                else:
                    found.append(step_of(entry))
            found += map(step_of, self._followers.get(step, ()))
        return marked

    def add_edge(self, entry: str, parent: str) -> list[str]:
        """Return as `add`."""
        self._children.setdefault(parent, set()).add(entry)
        if parent not in self.steps:
            if is_marked(entry):
                self._open[entry] = self._open.get(entry, 0) + 1
            return []
        return [] if is_marked(entry) else self.add(step_of(entry))

    def remove_edge(self, entry: str, parent: str) -> None:
        self._children.get(parent, set()).discard(entry)
        if parent not in self.steps and is_marked(entry):
            self._open[entry] -= 1
