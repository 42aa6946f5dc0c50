"""Decides what went wrong, from what clients noted, what tasks noted, and what ZooKeeper committed. Pure.

Nothing of Herdmaster's own opinion goes in: a role that believes that all is well changes nothing here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from chaos.history import History
from chaos.records import Accepted, Executed, Gone, Noted, Refused, Told, Unknown


class Evidence(msgspec.Struct, frozen=True):
    """`notes` are by client. `successors` are those that attached to what a killed client had submitted.

    `remains` are the paths of znodes that should not be there any more, `faults` what processes said of faults of their
    own.
    """

    notes: Mapping[str, Sequence[Noted]]
    executions: Sequence[Executed]
    history: History
    remains: Sequence[str] = ()
    faults: Sequence[str] = ()
    successors: frozenset[str] = frozenset()


class Judgement(msgspec.Struct, frozen=True):
    """Complaints by kind, a sentence each; none of them is allowed. The counts are."""

    accepted: int
    unknown: int
    outcomes: int
    reruns: int
    late_starts: int
    lost: list[str]
    doubled: list[str]
    wrong: list[str]
    left: list[str]

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.left)

    @property
    def complaints(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.wrong, *(f"{path} was left behind" for path in self.left)]


class _Case:
    """The evidence, by task."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.history = evidence.history
        self.tags: dict[str, str] = {}
        self.names: defaultdict[str, list[str]] = defaultdict(list)
        self.accepted: list[str] = []
        self.refused: list[Refused] = []
        self.unknown: list[str] = []
        self.told: Counter[str] = Counter()
        self.results: list[Told] = []
        self.gone: list[tuple[str, str]] = []  # by whom, and the task
        for client, notes in evidence.notes.items():
            for note in notes:
                self._take(client, note)
        self.starts = Counter(execution.tag for execution in evidence.executions)

    def _take(self, client: str, note: Noted) -> None:
        match note:
            case Accepted(tag, task):
                self.accepted.append(task)
                self.tags[task] = tag
                self.names[tag].append(task)
            case Refused():
                self.refused.append(note)
            case Unknown(tag, task):
                self.unknown.append(task)
                self.tags[task] = tag
            case Told(task):
                self.told[task] += 1
                self.results.append(note)
            case Gone(task):
                self.gone.append((client, task))

    # --- the four questions ------------------------------------------------------------------------------------------

    def lost(self) -> Iterable[str]:
        """What was accepted has to end, and its client has to hear of it."""
        history = self.history
        for task in self.accepted:
            if not history.submitted[task]:
                yield f"{task} was acknowledged, and never committed"
        for task in dict.fromkeys((*self.accepted, *history.submitted)):
            if not history.outcomes[task]:
                yield f"{task} never ended"
            elif not self.told[task] and not self._was_taken_before(task):
                yield f"{task} ended, and no client was told"
        for client, task in self.gone:
            if history.outcomes[task] == 0 and history.submitted[task]:
                yield f"{client} was told that {task} is gone, which it was not"

    def _was_taken_before(self, task: str) -> bool:
        """A client was killed between collecting an outcome and noting it down: its successor finds nothing."""
        return self.history.collected[task] == 1 and any(
            client in self.evidence.successors and gone == task for client, gone in self.gone
        )

    def doubled(self) -> Iterable[str]:
        for what, counts in (
            ("was submitted", self.history.submitted),
            ("has ended", self.history.outcomes),
            ("was told to its client", self.told),
        ):
            for task, count in counts.items():
                if count > 1:
                    yield f"{task} {what} {count} times"
        for tag, names in self.names.items():
            if len(names) > 1:
                yield f"{tag} was accepted {len(names)} times, as {', '.join(names)}"

    def wrong(self) -> Iterable[str]:
        history = self.history
        yield from self.evidence.faults
        yield from history.intrusions
        yield from (f"{task} was given up on" for task in history.buried)
        yield from (f"{note.tag} was refused: {note.reason}" for note in self.refused)
        for note in self.results:
            tag = self.tags.get(note.task)
            if note.error is not None:
                yield f"{note.task} failed: {note.error}"
            elif tag is not None and note.result != tag:
                yield f"{note.task} should give {tag} and gave {note.result}"
            elif not self.starts[note.result or ""]:
                yield f"{note.task} is done, and its code never ran"

    def late_starts(self) -> int:
        """Executions that began after the outcome: a process that was stopped between its last look and the start."""
        ended = {tag: self.history.ended_at[task] for task, tag in self.tags.items() if task in self.history.ended_at}
        return sum(1 for each in self.evidence.executions if each.at * 1000 > ended.get(each.tag, float("inf")) + 1)


def judge(evidence: Evidence) -> Judgement:
    case = _Case(evidence)
    return Judgement(
        accepted=len(set(case.accepted) | set(case.history.submitted)),
        unknown=len(case.unknown),
        outcomes=len(case.history.outcomes),
        reruns=sum(count - 1 for count in case.starts.values()),
        late_starts=case.late_starts(),
        lost=list(case.lost()),
        doubled=list(case.doubled()),
        wrong=list(case.wrong()),
        left=list(evidence.remains),
    )
