"""Explores every state of a model, in the order of the number of steps.

A state is one integer: each part of the system (a field) has its bits in it. An interned field holds the number under
which its value is known, a counter is its own value. A process reads a few fields and says what may happen next; what
it says is remembered per combination of what it reads, as differences to be added to the state. So the rules are
written with plain records, run once per combination, and the exploring itself is adding integers.

What befalls a role as a whole (it loses its connection, it takes a listing) changes every task's fields. Such a step
carries an event; a reaction per task says what becomes of it, and is remembered per task.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

STUCK: Final = "faults over, every task can end, and what is left of it goes"
_BITS_OF_INTERNED: Final = 11
_BITS_OF_COUNTER: Final = 3


class Step(NamedTuple):
    """`story` tells it in a line. `changes` are new values of fields, `counts` are added to counters. A step that is no
    `progress` is a fault or a whim: nothing may depend on its happening. `broken` says which promise it breaks."""

    story: str
    changes: Mapping[str, Hashable]
    counts: Mapping[str, int] = {}
    progress: bool = True
    broken: str | None = None
    event: Hashable | None = None


class Process(NamedTuple):
    """`steps` gets the values of the fields that it `reads`, in this order."""

    reads: tuple[str, ...]
    steps: Callable[..., Iterable[Step]]


class Reaction(NamedTuple):
    """What an event does to one task: `react` gets the event, then the values of the fields."""

    reads: tuple[str, ...]
    react: Callable[..., Step]


class Counterexample(NamedTuple):
    """`broken` is the promise, `story` the shortest way to break it."""

    broken: str
    story: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"Broken: {self.broken}.", "How it comes to that:"]
        return "\n".join([*lines, *(f"{number:4}. {line}." for number, line in enumerate(self.story, 1))])


class Verdict(NamedTuple):
    """What exploring to the end came to."""

    states: int
    depth: int
    counterexample: Counterexample | None


class _Field:
    def __init__(self, name: str, shift: int, *, counter: bool, bits: int) -> None:
        self.name = name
        self.shift = shift
        self.counter = counter
        self.bits = _BITS_OF_COUNTER if counter else bits
        self.mask = ((1 << self.bits) - 1) << shift
        self._values: list[Hashable] = []
        self._numbers: dict[Hashable, int] = {}

    def encode(self, value: Hashable) -> int:
        if isinstance(value, int) and self.counter:
            number = value
        else:
            number = self._numbers.setdefault(value, len(self._values))
            if number == len(self._values):
                self._values.append(value)
        if not 0 <= number < 1 << self.bits:
            raise OverflowError(f"the field {self.name} has no room for {value}")
        return number << self.shift

    def decode(self, state: int) -> Hashable:
        number = (state & self.mask) >> self.shift
        return number if self.counter else self._values[number]


class _Entry(NamedTuple):
    """What one process may do in one combination of what it reads, as differences to the state; `events` come with
    theirs. The last two hold what is progress."""

    plain: tuple[int, ...]
    events: tuple[tuple[int, Hashable], ...]
    plain_progress: tuple[int, ...]
    progress_events: tuple[tuple[int, Hashable], ...]


class _Remembered:
    """A process or a reaction with what it said before."""

    def __init__(
        self, reads: tuple[str, ...], steps: Callable[..., Iterable[Step]], fields: Mapping[str, _Field]
    ) -> None:
        self.steps = steps
        self.fields = [fields[name] for name in reads]
        self.mask = sum(field.mask for field in self.fields)
        self.entries: dict[int, _Entry] = {}
        self.deltas: dict[tuple[Hashable, int], int] = {}

    def values(self, state: int) -> list[Hashable]:
        return [field.decode(state) for field in self.fields]


class Model:
    """`initial` and `counters` are the fields with their first values; a field has at most `2 ** bits` values."""

    def __init__(
        self,
        initial: Mapping[str, Hashable],
        counters: Mapping[str, int],
        processes: Sequence[Process],
        reactions: Sequence[Reaction],
        is_settled: Mapping[str, Callable[..., bool]],
        *,
        bits: int = _BITS_OF_INTERNED,
    ) -> None:
        self._fields: dict[str, _Field] = {}
        shift = 0
        for name in [*counters, *initial]:
            field = self._fields[name] = _Field(name, shift, counter=name in counters, bits=bits)
            shift += field.bits
        self.initial = sum(self._fields[name].encode(value) for name, value in {**counters, **initial}.items())
        self._remembered = [_Remembered(each.reads, each.steps, self._fields) for each in processes]
        self._reactions = [(_Remembered(each.reads, lambda: (), self._fields), each.react) for each in reactions]
        self._settled = [(self._fields[name], check, dict[int, bool]()) for name, check in is_settled.items()]
        self._broken = False
        self._states: list[int] = []
        self.stories: set[str] = set()
        """Of all the steps that were possible somewhere."""

    def views(self) -> Iterator[dict[str, Hashable]]:
        """The fields of every state that was explored last."""
        for state in self._states:
            yield {name: field.decode(state) for name, field in self._fields.items()}

    def asked(self, reads: tuple[str, ...]) -> Iterator[tuple[Hashable, ...]]:
        """Every combination of values that a process which reads these fields was asked about."""
        fields = [self._fields[name] for name in reads]
        for process in self._remembered:
            if process.fields == fields:
                yield from (tuple(process.values(key)) for key in process.entries)

    # --- exploring -------------------------------------------------------------------------------------------------

    def explore(self, *, settling: bool = True, limit: int = 5_000_000) -> Verdict:
        """Goes through all states, up to the first step that breaks a promise; then, if `settling`, looks for a state
        from which no path of progress leads to a settled one."""
        numbers = {self.initial: 0}
        states, parents = [self.initial], array("l", [-1])
        self._states = states
        level, depth = 0, 0
        for number, state in enumerate(states):
            if number == level:
                level, depth = len(states), depth + 1
            for following in self._successors(state):
                if following not in numbers:
                    numbers[following] = len(states)
                    states.append(following)
                    parents.append(number)
            if self._broken:
                path = self._path(states, parents, number)
                return Verdict(len(states), depth, self._tell_broken(path))
            if len(states) > limit:
                raise OverflowError(f"more than {limit} states")
        stuck = self._find_stuck(numbers, states) if settling else None
        if stuck is None:
            return Verdict(len(states), depth, None)
        path = self._path(states, parents, stuck)
        return Verdict(len(states), depth, Counterexample(STUCK, (*self._tell(path), "From here on nothing mends it")))

    def _successors(self, state: int) -> list[int]:
        found: list[int] = []
        for process in self._remembered:
            entry = process.entries.get(state & process.mask) or self._ask(state, process)
            if entry.plain:
                found += [state + delta for delta in entry.plain]
            for delta, event in entry.events:
                found.append(state + delta + self._react(state, event))
        return found

    def _ask(self, state: int, process: _Remembered) -> _Entry:
        plain: dict[bool, list[int]] = {True: [], False: []}
        events: dict[bool, list[tuple[int, Hashable]]] = {True: [], False: []}
        for step in process.steps(*process.values(state)):
            self.stories.add(step.story)
            self._broken = self._broken or step.broken is not None
            delta = self._delta(state, step, process.fields)
            if step.event is not None:
                events[step.progress].append((delta, step.event))
            elif delta:
                plain[step.progress].append(delta)
        entry = _Entry(
            (*plain[True], *plain[False]),
            (*events[True], *events[False]),
            tuple(plain[True]),
            tuple(events[True]),
        )
        process.entries[state & process.mask] = entry
        return entry

    def _delta(self, state: int, step: Step, allowed: list[_Field]) -> int:
        delta = 0
        for name, value in step.changes.items():
            field = self._fields[name]
            assert field in allowed, f"{step.story}: changes {name} without reading it"
            delta += field.encode(value) - (state & field.mask)
        for name, count in step.counts.items():
            delta += count << self._fields[name].shift
        return delta

    def _react(self, state: int, event: Hashable) -> int:
        total = 0
        for reaction, react in self._reactions:
            key = (event, state & reaction.mask)
            delta = reaction.deltas.get(key)
            if delta is None:
                step = react(event, *reaction.values(state))
                delta = reaction.deltas[key] = self._delta(state, step, reaction.fields)
            total += delta
        return total

    # --- settling --------------------------------------------------------------------------------------------------

    def _find_stuck(self, numbers: Mapping[int, int], states: Sequence[int]) -> int | None:
        """The first state from which nothing leads to a settled one. Most steps lead to later states, so going through
        them backwards a few times is enough."""
        leads_there = bytearray(self._is_settled(state) for state in states)
        left = [number for number in reversed(range(len(states))) if not leads_there[number]]
        while left:
            before, left = left, []
            for number in before:
                if self._leads(states[number], numbers, leads_there):
                    leads_there[number] = 1
                else:
                    left.append(number)
            if len(left) == len(before):
                return left[-1]
        return None

    def _leads(self, state: int, numbers: Mapping[int, int], leads_there: bytearray) -> bool:
        for process in self._remembered:
            entry = process.entries[state & process.mask]
            for delta in entry.plain_progress:
                if leads_there[numbers[state + delta]]:
                    return True
            for delta, event in entry.progress_events:
                if leads_there[numbers[state + delta + self._react(state, event)]]:
                    return True
        return False

    def _is_settled(self, state: int) -> bool:
        for field, check, known in self._settled:
            key = state & field.mask
            found = known.get(key)
            if found is None:
                found = known[key] = check(field.decode(state))
            if not found:
                return False
        return True

    # --- telling ---------------------------------------------------------------------------------------------------

    def _path(self, states: Sequence[int], parents: Sequence[int], number: int) -> list[int]:
        path = []
        while number >= 0:
            path.append(states[number])
            number = parents[number]
        return path[::-1]

    def _tell(self, path: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._tell_step(before, after) for before, after in pairwise(path))

    def _tell_step(self, before: int, after: int) -> str:
        for process in self._remembered:
            for step in process.steps(*process.values(before)):
                if before + self._total(before, step, process) == after:
                    return step.story
        raise AssertionError("a step that no process made")

    def _tell_broken(self, path: Sequence[int]) -> Counterexample:
        last = path[-1]
        for process in self._remembered:
            for step in process.steps(*process.values(last)):
                if step.broken is not None:
                    return Counterexample(step.broken, (*self._tell(path), step.story))
        raise AssertionError("a promise that no step broke")

    def _total(self, state: int, step: Step, process: _Remembered) -> int:
        delta = self._delta(state, step, process.fields)
        return delta if step.event is None else delta + self._react(state, step.event)
