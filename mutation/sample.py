"""The sample: lines drawn at random over all modules, and one mutant of each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from functools import cache
from pathlib import Path

from mutation.operators import Lines, Mutation, mutations


@dataclass(frozen=True, slots=True)
class Mutant:
    path: str
    line: int
    kind: str
    source: str
    code: str
    statement: Lines
    function: Lines | None

    @property
    def diff(self) -> str:
        """Return the changed lines, as in a unified diff, without its head."""
        lines = unified_diff(self.source.splitlines(), self.code.splitlines(), n=0, lineterm="")
        return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def draw(root: Path, paths: list[str], count: int, seed: int) -> Iterator[Mutant]:
    """Return this many mutants, no two of one line: the same ones for the same seed and sources.

    Every line that has a mutant is as likely as every other; then every operator that changes the line, then every
    change that the operator makes there.
    """
    rng = random.Random(seed)
    sources = {path: (root / path).read_text("utf-8") for path in paths}
    lines = [(path, number) for path, text in sources.items() for number in range(1, text.count("\n") + 1)]
    rng.shuffle(lines)
    drawn = 0
    for path, number in lines:
        if drawn == count:
            return
        choices = _of_line(sources[path], number)
        while choices:
            kind = rng.choice(sorted({mutation.kind for mutation in choices}))
            chosen = rng.choice([mutation for mutation in choices if mutation.kind == kind])
            code = chosen.code()
            if code != sources[path] and _compiles(code):
                yield Mutant(path, number, kind, sources[path], code, chosen.statement, chosen.function)
                drawn += 1
                break
            choices.remove(chosen)


def _of_line(source: str, number: int) -> list[Mutation]:
    return [mutation for mutation in _all(source) if mutation.line == number]


@cache
def _all(source: str) -> list[Mutation]:
    return mutations(source)


def _compiles(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except SyntaxError:
        return False
    return True
