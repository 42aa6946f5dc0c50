"""The sample: lines drawn at random over all modules, and one mutant of each."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import unified_diff
from functools import cache
from pathlib import Path
from typing import Any

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


def drawn_before(place: Path, root: Path, paths: list[str], count: int, seed: int) -> list[Mutant]:
    """As `draw`, which takes half a minute: the sample is kept there until a source changes."""
    digest = hashlib.sha256(f"{count} {seed}".encode())
    for path in (*paths, "mutation/operators.py"):
        digest.update((root / path).read_bytes())
    if place.exists():
        kept = json.loads(place.read_text("utf-8"))
        if kept["digest"] == digest.hexdigest():
            return [_of_json(each) for each in kept["mutants"]]
    mutants = list(draw(root, paths, count, seed))
    told = {"digest": digest.hexdigest(), "mutants": [asdict(mutant) for mutant in mutants]}
    place.write_text(json.dumps(told), encoding="utf-8")
    return mutants


def _of_json(values: dict[str, Any]) -> Mutant:
    lines = {name: None if values[name] is None else Lines(**values[name]) for name in ("statement", "function")}
    return Mutant(**{**values, **lines})


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
