"""What became of each task, as the transactions of one namespace tell it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from chaos.transactions import Change, Kind, Transaction
from herdmaster.core import layout
from herdmaster.core.names import is_step, parse_flow_name


class Assignment(msgspec.Struct, frozen=True):
    """A task was put into a worker's inbox by that session, at that unix millisecond."""

    task: str
    worker: str
    session: int
    at: int


class History(msgspec.Struct):
    """Counts by the names of tasks; a doubtful submission counts once, and only if nothing certain is known.

    `submitters` are their clients' journals, `ended_at` unix milliseconds of the first outcome.
    `intrusions` are assignments that a session made that did not own `/master`.
    """

    submitted: Counter[str] = msgspec.field(default_factory=Counter)
    submitters: dict[str, str] = msgspec.field(default_factory=dict)
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    collected: Counter[str] = msgspec.field(default_factory=Counter)
    buried: Counter[str] = msgspec.field(default_factory=Counter)
    ended_at: dict[str, int] = msgspec.field(default_factory=dict)
    assignments: list[Assignment] = msgspec.field(default_factory=list)
    intrusions: list[str] = msgspec.field(default_factory=list)


class Historian:
    """Follows the transactions of a namespace. It remembers who is primary from one part of history to the next."""

    def __init__(self, namespace: str) -> None:
        self._prefix = namespace
        self._primaries: set[int] = set()  # more than one where transactions were doubtful
        self.last_zxid = 0

    def fork(self) -> Historian:
        """Another, that knows the same: for a look at what servers may yet take back."""
        other = Historian(self._prefix)
        other._primaries, other.last_zxid = set(self._primaries), self.last_zxid
        return other

    def is_primary(self, session: int) -> bool:
        """Whether that session may own `/master` now."""
        return session in self._primaries

    def tell(self, transactions: Iterable[Transaction]) -> History:
        """What happened in these, which follow on those that it was told before."""
        history = History()
        doubtful: list[tuple[Counter[str], str]] = []
        for transaction in transactions:
            self._follow_primary(transaction)
            for counter, name in self._follow(transaction, history):
                if transaction.is_doubtful:
                    doubtful.append((counter, name))
                else:
                    counter[name] += 1
            self.last_zxid = transaction.zxid
        for counter, name in doubtful:
            counter[name] = counter[name] or 1
        return history

    def _follow_primary(self, transaction: Transaction) -> None:
        for change in transaction.changes:
            if change.path == self._prefix + layout.MASTER:
                if not transaction.is_doubtful:
                    self._primaries.clear()
                if change.kind is Kind.CREATED:
                    self._primaries.add(transaction.session)
        if transaction.ends_session and not transaction.is_doubtful:
            self._primaries.discard(transaction.session)

    def _follow(self, transaction: Transaction, history: History) -> Iterator[tuple[Counter[str], str]]:
        """What is to be counted, and for which task."""
        changes = [change for change in transaction.changes if change.path.startswith(f"{self._prefix}/")]
        journal = next((each for each in changes if each.kind is Kind.SET and self._is_journal(each)), None)
        for change in changes:
            name = layout.name_of(change.path)
            match change.kind, self._folder(change):
                case Kind.CREATED, layout.FLOWS if journal is not None and parse_flow_name(name) is not None:
                    yield history.submitted, name
                    history.submitters[name] = layout.name_of(journal.path)
                case Kind.CREATED, layout.TASKS | layout.DELAYED if journal is not None and not is_step(name):
                    task = _task_of(name)
                    yield history.submitted, task
                    history.submitters[task] = layout.name_of(journal.path)
                case Kind.CREATED, layout.STATUS:
                    yield history.outcomes, name
                    history.ended_at.setdefault(name, transaction.at)
                case Kind.DELETED, layout.STATUS:
                    yield history.collected, name
                case Kind.CREATED, layout.DEAD:
                    yield history.buried, name
                case Kind.CREATED, layout.ASSIGN:
                    self._assigned(change, transaction, history)

    def _assigned(self, change: Change, transaction: Transaction, history: History) -> None:
        found = layout.split_assignment(change.path.removeprefix(self._prefix))
        if found is None:  # an inbox
            return
        worker, task = found
        history.assignments.append(Assignment(task, worker, transaction.session, transaction.at))
        if not self.is_primary(transaction.session):
            history.intrusions.append(f"{task} was assigned by a session that was not primary")

    def _is_journal(self, change: Change) -> bool:
        return self._folder(change) == layout.CLIENTS

    def _folder(self, change: Change) -> str:
        """The first segment below the namespace; of a folder itself none."""
        first, slash, _ = change.path.removeprefix(self._prefix)[1:].partition("/")
        return f"/{first}" if slash else ""


def _task_of(name: str) -> str:
    delayed = layout.parse_delayed_name(name)
    return name if delayed is None else delayed[1]
