"""The blocks of a module: runs of statements that are executed together, and code that notes each one that is reached.

The notes are bytes of a file that is mapped into memory. So they cost a few ten nanoseconds each, they come from child
processes too, also from those that are killed later, and no exception of another thread can be lost in them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

PROBES: Final = "herd_mutation_probes"  # the module that the noting code imports
PATH: Final = "HERD_MUTATION_PROBES"  # in the environment: the mapped file
_NAME: Final = "_reached_"

PROBES_SOURCE: Final = f"""\
import mmap
import os

try:
    with open(os.environ["{PATH}"], "r+b") as _file:
        reached = mmap.mmap(_file.fileno(), 0)
except (KeyError, OSError):
    reached = bytearray({{size}})
"""


@dataclass(slots=True)
class Blocks:
    """The blocks of one source, numbered from 0."""

    starts: list[tuple[int, int]] = field(default_factory=list)  # line and byte, where the noting code is put
    by_line: dict[int, set[int]] = field(default_factory=dict)
    load: tuple[int, int] = (1, 0)  # where the import is put

    def note(self, source: str, offset: int) -> str:
        """Return the source with code that notes its blocks, from this number on. The lines stay where they are."""
        lines = [line.encode() for line in source.split("\n")]
        for number, (line, column) in reversed(list(enumerate(self.starts))):
            text = lines[line - 1]
            lines[line - 1] = text[:column] + f"{_NAME}[{offset + number}] = 1; ".encode() + text[column:]
        if self.starts:
            line, column = self.load
            text = lines[line - 1]
            lines[line - 1] = text[:column] + f"from {PROBES} import reached as {_NAME}; ".encode() + text[column:]
        return b"\n".join(lines).decode()


def of_source(source: str) -> Blocks:
    """Return the blocks. A line that is in none, such as the head of a loop, belongs to those that follow it."""
    found = Blocks()
    body = ast.parse(source).body
    first = next((each for each in body if not _must_come_first(each)), None)
    if first is not None:
        # The formatter leaves blank lines before a class.
        found.load = first.lineno - (1 if list(_parts(first)) else 0), 0
    _add(found, body)
    return found


def _add(found: Blocks, body: list[ast.stmt]) -> set[int]:
    """Add the blocks of a list of statements, and return the first ones that are reached there."""
    current: int | None = None
    first: set[int] = set()
    heads: set[int] = set()  # the blocks of a head before which nothing can be noted
    for statement in body:
        if _must_come_first(statement):
            continue
        inner = [_add(found, part) for part in _parts(statement)]
        if not inner and current is None:
            current = len(found.starts)
            found.starts.append((statement.lineno, statement.col_offset))
            heads.add(current)
        reached = {current} if current is not None else set().union(*inner)
        _cover(found, statement, reached)
        first = first or reached
        heads = reached if inner and current is None else set()
        current = None if inner else current
    return first


def _must_come_first(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Constant(value=str())) | ast.ImportFrom(module="__future__"):
            return True
        case _:
            return False


def _parts(statement: ast.AST) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        part = getattr(statement, name, None)
        if isinstance(part, list) and part:
            yield part
    for name in ("handlers", "cases"):
        for each in getattr(statement, name, ()):
            yield from _parts(each)


def _cover(found: Blocks, statement: ast.stmt, blocks: set[int]) -> None:
    """Say that lines of this statement which no statement in it covers are reached with these blocks."""
    for line in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1):
        found.by_line.setdefault(line, blocks)
